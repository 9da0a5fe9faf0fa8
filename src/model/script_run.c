/* The bounded Lua state. */
#include "model/script_lua.h"

#include <lualib.h>
#include <stdlib.h>

enum { HOOK_EVERY = 1000 };

/* ---- bounds ---- */

static void *bounded_alloc(void *ud, void *p, size_t had, size_t want)
{
    struct script_state *s = ud;
    if (!p)
        had = 0; /* Lua passes the kind of object there */
    if (want == 0) {
        s->memory_bytes -= had;
        free(p);
        return NULL;
    }
    if (want > had) {
        size_t more = want - had;
        if (more > SCRIPT_MEMORY - s->memory_bytes ||
            more > (size_t)SCRIPT_CHURN_MB * 1024 * 1024 - s->churn_bytes)
            return NULL;
        s->churn_bytes += more;
    }
    void *now = realloc(p, want);
    if (!now)
        return want <= had ? p : NULL;
    s->memory_bytes = s->memory_bytes - had + want;
    return now;
}

static void count_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    struct script_state *s = script_state_of(L);
    s->instructions += HOOK_EVERY;
    if (s->instructions <= SCRIPT_INSTRUCTIONS)
        return;
    /* From now on at every instruction, so that no pcall in a loop can go on. */
    lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    luaL_error(L, "the script ran for more than %d instructions", (int)SCRIPT_INSTRUCTIONS);
}

/* ---- what a script may call ---- */

/* Finalizers run without the instruction hook: an endless one could not be stopped. */
static int lib_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "finalizers are not available");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int pairs_next(lua_State *L)
{
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2)) + 1;
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    if (lua_rawgeti(L, lua_upvalueindex(1), i) == LUA_TNIL)
        return 1;
    lua_pushvalue(L, -1);
    lua_gettable(L, lua_upvalueindex(3));
    return 2;
}

static int lib_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    script_sorted_keys(L, 1);
    lua_pushinteger(L, 0);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, pairs_next, 3);
    return 1;
}

static void forget(lua_State *L, const char *table, const char *const *names)
{
    lua_getglobal(L, table);
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

static void open_libraries(lua_State *L)
{
    static const luaL_Reg libs[] = {{LUA_GNAME, luaopen_base},
                                    {LUA_STRLIBNAME, luaopen_string},
                                    {LUA_TABLIBNAME, luaopen_table},
                                    {LUA_MATHLIBNAME, luaopen_math},
                                    {LUA_UTF8LIBNAME, luaopen_utf8}};
    static const char *const no_base[] = {"dofile", "loadfile", "load", "collectgarbage",
                                          "print",  "next",     "warn", NULL};
    static const char *const no_math[] = {"random", "randomseed", NULL};
    static const char *const no_string[] = {"dump", NULL};
    for (size_t i = 0; i < COUNT_OF(libs); i++) {
        luaL_requiref(L, libs[i].name, libs[i].func, 1);
        lua_pop(L, 1);
    }
    forget(L, LUA_GNAME, no_base);
    forget(L, LUA_MATHLIBNAME, no_math);
    forget(L, LUA_STRLIBNAME, no_string);
    lua_pushcfunction(L, lib_setmetatable);
    lua_setglobal(L, "setmetatable");
    lua_pushcfunction(L, lib_pairs);
    lua_setglobal(L, "pairs");
    lua_pushcfunction(L, script_aside);
    lua_setglobal(L, "aside");
    script_json_open(L);
}

/* ---- a run ---- */

struct source {
    struct str name, text;
};

static int protected_run(lua_State *L)
{
    const struct source *src = lua_touserdata(L, 1);
    open_libraries(L);
    const char *chunk = lua_pushfstring(L, "=%s.lua", src->name.ptr);
    /* "t": text only; crafted bytecode could break the interpreter. */
    if (luaL_loadbufferx(L, src->text.ptr ? src->text.ptr : "", src->text.len, chunk, "t") !=
        LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "the file must return a function, not a %s", luaL_typename(L, -1));
    script_request_push(L);
    lua_call(L, 1, 1);
    script_reply_read(L, -1);
    return 0;
}

static int report(lua_State *L, int status, struct err *err)
{
    if (status == LUA_ERRMEM)
        return err_set(err, ERR_INVALID, "the script needs more than %d MiB of memory",
                       SCRIPT_MEMORY / 1024 / 1024);
    const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    return err_set(err, ERR_INVALID, "%s",
                   message ? message : "the script raised an error without a message");
}

int script_run(struct str name, struct str source, const struct model_request *req,
               struct arena *arena, struct script_reply *out, struct err *err)
{
    struct source src = {.name = arena_str(arena, str_take(name, 64)), .text = source};
    struct script_state s = {.req = req, .arena = arena, .reply = out};
    *out = (struct script_reply){0};
    if (!str_some(src.name))
        return err_set(err, ERR_LIMIT, "not enough memory");
    lua_State *L = lua_newstate(bounded_alloc, &s);
    if (!L)
        return err_set(err, ERR_INTERNAL, "not enough memory for Lua");
    buf_init(&s.scratch, 64 * 1024 * 1024);
    struct script_state *self = &s;
    memcpy(lua_getextraspace(L), &self, sizeof self);
    lua_sethook(L, count_hook, LUA_MASKCOUNT, HOOK_EVERY);
    lua_pushcfunction(L, protected_run);
    lua_pushlightuserdata(L, &src);
    int status = lua_pcall(L, 1, 0, 0);
    int rc = status == LUA_OK ? 0 : report(L, status, err);
    lua_close(L);
    buf_fini(&s.scratch);
    return rc;
}
