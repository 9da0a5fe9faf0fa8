#include "json/writer.h"
#include "model/script_lua.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH_MAX = 100 };

static const char array_key; /* its address: the array metatable in the registry */

static void *null_value(void)
{
    return (void *)(uintptr_t)&array_key;
}

static void array_mark(lua_State *L, int at)
{
    at = lua_absindex(L, at);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    lua_setmetatable(L, at);
}

static bool array_marked(lua_State *L, int at)
{
    if (!lua_getmetatable(L, at))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* ---- JSON to Lua ---- */

static void push_container(lua_State *L, const struct json *v)
{
    luaL_checkstack(L, 6, "JSON nested too deeply");
    lua_createtable(L, v->type == JSON_ARRAY ? (int)v->count : 0,
                    v->type == JSON_OBJECT ? (int)v->count : 0);
    lua_Integer n = 0;
    json_for_each (item, v) {
        if (v->type == JSON_ARRAY) {
            script_json_push(L, item);
            lua_rawseti(L, -2, ++n);
        } else {
            script_push(L, item->key);
            script_json_push(L, item);
            lua_rawset(L, -3);
        }
    }
    if (v->type == JSON_ARRAY)
        array_mark(L, -1);
}

void script_json_push(lua_State *L, const struct json *v)
{
    int64_t i;
    double d;
    if (!v) {
        lua_pushnil(L);
        return;
    }
    switch (v->type) {
    case JSON_NULL: lua_pushlightuserdata(L, null_value()); break;
    case JSON_BOOL: lua_pushboolean(L, v->boolean); break;
    case JSON_STRING: script_push(L, v->str); break;
    case JSON_NUMBER:
        if (json_i64(v, &i))
            lua_pushinteger(L, i);
        else if (json_f64(v, &d))
            lua_pushnumber(L, d);
        else
            script_push(L, v->raw);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT: push_container(L, v); break;
    }
}

/* ---- keys in order ---- */

struct sort_key {
    int rank; /* 0 number, 1 string, 2 the rest */
    double number;
    struct str text;
    int slot; /* where it was met */
};

static int key_cmp(const void *pa, const void *pb)
{
    const struct sort_key *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank - b->rank;
    if (a->rank == 0 && (a->number < b->number || a->number > b->number))
        return a->number < b->number ? -1 : 1;
    if (a->rank == 1)
        return str_cmp(a->text, b->text);
    return a->slot - b->slot;
}

/* Lua's own order depends on addresses; a script must behave the same each time. */
void script_sorted_keys(lua_State *L, int at)
{
    at = lua_absindex(L, at);
    luaL_checkstack(L, 6, "too many tables");
    int n = 0;
    lua_newtable(L); /* as met */
    int met = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, at);) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, met, ++n);
    }
    struct sort_key *keys = lua_newuserdatauv(L, sizeof *keys * (size_t)(n + 1), 0);
    for (int i = 1; i <= n; i++) {
        int type = lua_rawgeti(L, met, i);
        keys[i - 1] = (struct sort_key){.rank = 2, .slot = i};
        if (type == LUA_TNUMBER) {
            keys[i - 1].rank = 0;
            keys[i - 1].number = lua_tonumber(L, -1);
        } else if (type == LUA_TSTRING) {
            keys[i - 1].rank = 1;
            keys[i - 1].text.ptr = lua_tolstring(L, -1, &keys[i - 1].text.len);
        }
        lua_pop(L, 1);
    }
    qsort(keys, (size_t)n, sizeof *keys, key_cmp);
    lua_createtable(L, n, 0);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, met, keys[i - 1].slot);
        lua_rawseti(L, -2, i);
    }
    lua_replace(L, met);
    lua_settop(L, met);
}

/* ---- Lua to JSON ---- */

static void write_value(lua_State *L, struct jw *w, int at, int depth);

static bool is_sequence(lua_State *L, int at, lua_Integer n)
{
    lua_Integer count = 0;
    for (lua_pushnil(L); lua_next(L, at);) {
        lua_pop(L, 1);
        if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1 || lua_tointeger(L, -1) > n) {
            lua_pop(L, 1);
            return false;
        }
        count++;
    }
    return count == n;
}

static void write_table(lua_State *L, struct jw *w, int at, int depth)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, at);
    if (array_marked(L, at) || (n > 0 && is_sequence(L, at, n))) {
        jw_arr(w);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, at, i);
            write_value(L, w, lua_gettop(L), depth + 1);
            lua_pop(L, 1);
        }
        jw_arr_end(w);
        return;
    }
    jw_obj(w);
    script_sorted_keys(L, at);
    int keys = lua_gettop(L);
    lua_Integer nkeys = (lua_Integer)lua_rawlen(L, keys);
    for (lua_Integer i = 1; i <= nkeys; i++) {
        if (lua_rawgeti(L, keys, i) != LUA_TSTRING)
            luaL_error(L, "a JSON object needs strings as keys, not a %s", luaL_typename(L, -1));
        size_t len;
        const char *key = lua_tolstring(L, -1, &len);
        jw_key_str(w, str_n(key, len));
        lua_rawget(L, at);
        write_value(L, w, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    jw_obj_end(w);
}

static void write_number(lua_State *L, struct jw *w, int at)
{
    if (lua_isinteger(L, at)) {
        jw_i64(w, lua_tointeger(L, at));
        return;
    }
    double d = lua_tonumber(L, at);
    char text[40];
    if (!isfinite(d))
        luaL_error(L, "JSON has no such number");
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        double back = strtod(text, NULL);
        if (back <= d && back >= d)
            break;
    }
    jw_raw(w, str_z(text));
}

static void write_value(lua_State *L, struct jw *w, int at, int depth)
{
    size_t len;
    const char *text;
    if (depth > DEPTH_MAX)
        luaL_error(L, "a table nested more than %d deep, or inside itself", DEPTH_MAX);
    luaL_checkstack(L, 8, "a table nested too deeply");
    switch (lua_type(L, at)) {
    case LUA_TBOOLEAN: jw_bool(w, lua_toboolean(L, at)); break;
    case LUA_TNUMBER: write_number(L, w, at); break;
    case LUA_TSTRING:
        text = lua_tolstring(L, at, &len);
        jw_str(w, str_n(text, len));
        break;
    case LUA_TTABLE: write_table(L, w, at, depth); break;
    case LUA_TLIGHTUSERDATA: jw_null(w); break;
    default: luaL_error(L, "JSON cannot hold a %s", luaL_typename(L, at));
    }
}

struct str script_json_text(lua_State *L, int at)
{
    struct script_state *s = script_state_of(L);
    buf_clear(&s->scratch);
    struct jw w = jw_to(&s->scratch);
    write_value(L, &w, lua_absindex(L, at), 0);
    if (!buf_ok(&s->scratch))
        luaL_error(L, "the JSON text is too long");
    struct str text = arena_str(s->arena, buf_view(&s->scratch));
    if (!str_some(text))
        luaL_error(L, "not enough memory");
    return text;
}

/* ---- the library ---- */

static int lib_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    script_push(L, script_json_text(L, 1));
    return 1;
}

static int lib_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const struct json *v;
    struct err err;
    if (json_parse(script_state_of(L)->arena, str_n(text, len), JSON_ALLOW_DUPLICATES, &v, &err)) {
        lua_pushnil(L);
        lua_pushstring(L, err.msg);
        return 2;
    }
    script_json_push(L, v);
    return 1;
}

static int lib_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    array_mark(L, 1);
    return 1;
}

void script_json_open(lua_State *L)
{
    static const luaL_Reg lib[] = {
        {"encode", lib_encode}, {"decode", lib_decode}, {"array", lib_array}, {NULL, NULL}};
    lua_newtable(L);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
    luaL_newlib(L, lib);
    lua_pushlightuserdata(L, null_value());
    lua_setfield(L, -2, "null");
    lua_setglobal(L, "json");
}
