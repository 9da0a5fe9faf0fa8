/* What a script returns, checked: a misspelt field is an error, not a silent nothing. */
#include "base/limits.h"
#include "json/writer.h"
#include "model/script.h"
#include "model/script_lua.h"

static const char *const stops[] = {[MODEL_STOP_END] = "end_turn",
                                    [MODEL_STOP_TOOL_USE] = "tool_use",
                                    [MODEL_STOP_MAX_TOKENS] = "max_tokens",
                                    [MODEL_STOP_PAUSE] = "pause_turn",
                                    [MODEL_STOP_REFUSAL] = "refusal",
                                    [MODEL_STOP_CONTEXT] = "model_context_window_exceeded",
                                    NULL};
static const char *const kinds[] = {[MODEL_ERR_OVERLOADED] = "overloaded",
                                    [MODEL_ERR_RATE_LIMITED] = "rate_limited",
                                    [MODEL_ERR_FAILED] = "failed",
                                    [MODEL_ERR_REQUEST] = "request",
                                    [MODEL_ERR_AUTH] = "auth",
                                    [MODEL_ERR_BILLING] = "billing",
                                    [MODEL_ERR_CONTEXT] = "context",
                                    NULL};

static void check_fields(lua_State *L, int at, const char *what, const char *const *names)
{
    script_sorted_keys(L, at);
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        const char *const *name = names;
        while (*name && (!key || strcmp(*name, key) != 0))
            name++;
        if (!*name)
            luaL_error(L, "%s has an unknown field '%s'", what, key ? key : "(not a name)");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Text as valid UTF-8 in the arena: a script may cut a string inside a character. */
static struct str text_copy(lua_State *L, struct str s)
{
    struct script_state *st = script_state_of(L);
    struct str out = STR_NONE;
    if (str_utf8(s)) {
        out = arena_str(st->arena, s);
    } else {
        const struct json *v;
        struct err err;
        buf_clear(&st->scratch);
        json_quote(&st->scratch, s);
        struct str quoted = arena_str(st->arena, buf_view(&st->scratch));
        if (str_some(quoted) && json_parse(st->arena, quoted, 0, &v, &err) == 0)
            out = v->str;
    }
    if (!str_some(out) && s.len)
        luaL_error(L, "not enough memory");
    return str_some(out) ? out : STR("");
}

/* Pushes and reads: an absent view when the field is nil. The value stays on the stack. */
static struct str field_text(lua_State *L, int at, const char *name)
{
    int type = lua_getfield(L, at, name);
    size_t len;
    if (type == LUA_TNIL)
        return STR_NONE;
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        luaL_error(L, "'%s' must be a string, not a %s", name, luaL_typename(L, -1));
    const char *text = lua_tolstring(L, -1, &len);
    return text_copy(L, str_n(text, len));
}

static int64_t field_int(lua_State *L, int at, const char *name, int64_t min, int64_t max)
{
    int ok;
    if (lua_getfield(L, at, name) == LUA_TNIL)
        return 0;
    lua_Integer n = lua_tointegerx(L, -1, &ok);
    if (!ok || n < min || n > max)
        luaL_error(L, "'%s' must be a whole number from %d to %d", name, (int)min, (int)max);
    return n;
}

static int word(lua_State *L, const char *field, struct str s, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (str_eqz(s, words[i]))
            return i;
    }
    return luaL_error(L, "'%s' cannot be '%s'", field, s.ptr);
}

static bool field_table(lua_State *L, int at, const char *name)
{
    int type = lua_getfield(L, at, name);
    if (type != LUA_TNIL && type != LUA_TTABLE)
        luaL_error(L, "'%s' must be a table, not a %s", name, luaL_typename(L, -1));
    return type == LUA_TTABLE;
}

/* ---- blocks ---- */

static struct model_block *add_block(struct script_reply *r, enum model_block_type type)
{
    struct model_block *b = &r->blocks[r->nblocks++];
    b->type = type;
    return b;
}

static void add_thinking(lua_State *L, struct script_reply *r, struct str thinking)
{
    struct script_state *s = script_state_of(L);
    buf_clear(&s->scratch);
    struct jw w = jw_to(&s->scratch);
    jw_obj(&w);
    jw_kz(&w, "type", "thinking");
    jw_kstr(&w, "thinking", thinking);
    jw_kz(&w, "signature", "script");
    jw_obj_end(&w);
    add_block(r, MODEL_THINKING)->raw = arena_str(s->arena, buf_view(&s->scratch));
}

static void add_tool(lua_State *L, struct script_reply *r, int at)
{
    static const char *const names[] = {"name", "input", NULL};
    if (!lua_istable(L, at))
        luaL_error(L, "each of 'tools' must be a table {name=, input=}");
    check_fields(L, at, "a tool call", names);
    struct model_block *b = add_block(r, MODEL_TOOL_USE);
    b->name = field_text(L, at, "name");
    if (b->name.len == 0)
        luaL_error(L, "a tool call needs a 'name'");
    int type = lua_getfield(L, at, "input");
    if (type == LUA_TNIL)
        b->input = STR("{}");
    else if (type == LUA_TTABLE)
        b->input = script_json_text(L, -1);
    else if (type == LUA_TSTRING) /* JSON text as it is: to try out what a model may send */
        b->input = field_text(L, at, "input");
    else
        luaL_error(L, "'input' must be a table or JSON text, not a %s", luaL_typename(L, -1));
    const struct json *v;
    struct err err;
    b->input_malformed =
        json_parse(script_state_of(L)->arena, b->input, JSON_ALLOW_DUPLICATES, &v, &err) != 0 ||
        v->type != JSON_OBJECT;
}

static void read_blocks(lua_State *L, struct script_reply *r, int at)
{
    lua_Integer ntools = 0;
    int top = lua_gettop(L);
    if (field_table(L, at, "tools"))
        ntools = (lua_Integer)lua_rawlen(L, -1);
    if (ntools > LIMIT_TOOL_CALLS_PER_RESPONSE)
        luaL_error(L, "more than %d tool calls", LIMIT_TOOL_CALLS_PER_RESPONSE);
    int tools = lua_gettop(L);
    r->blocks = ARENA_ARRAY(script_state_of(L)->arena, struct model_block, ntools + 2);
    struct str thinking = field_text(L, at, "thinking"), text = field_text(L, at, "text");
    if (!r->blocks)
        luaL_error(L, "not enough memory");
    if (str_some(thinking))
        add_thinking(L, r, thinking);
    if (text.len)
        add_block(r, MODEL_TEXT)->text = text;
    for (lua_Integer i = 1; i <= ntools; i++) {
        lua_rawgeti(L, tools, i);
        add_tool(L, r, lua_gettop(L));
        lua_settop(L, tools + 2);
    }
    lua_settop(L, top);
    r->stop = ntools ? MODEL_STOP_TOOL_USE : MODEL_STOP_END;
}

/* ---- the rest ---- */

static void read_error(lua_State *L, struct script_reply *r, int at)
{
    static const char *const names[] = {"kind", "message", "http_status", "retry_after_ms", NULL};
    if (!field_table(L, at, "error"))
        return;
    int e = lua_gettop(L);
    check_fields(L, e, "'error'", names);
    r->failing = true;
    struct str kind = field_text(L, e, "kind");
    r->failure.kind =
        str_some(kind) ? (enum model_error_kind)word(L, "kind", kind, kinds) : MODEL_ERR_FAILED;
    struct str message = field_text(L, e, "message");
    if (!str_some(message))
        message = STR("the script says so");
    (void)str_copyz(r->failure.message, sizeof r->failure.message,
                    str_utf8_take(message, sizeof r->failure.message - 1));
    r->failure.http_status = (int)field_int(L, e, "http_status", 0, 599);
    r->failure.retry_after_ms = field_int(L, e, "retry_after_ms", 0, LIMIT_RETRY_AFTER_MS);
}

static void default_usage(const struct model_request *req, struct script_reply *r)
{
    size_t out = 0;
    for (size_t i = 0; i < r->nblocks; i++) {
        const struct model_block *b = &r->blocks[i];
        out += b->text.len + b->raw.len + b->name.len + b->input.len;
    }
    r->usage.input_tokens = script_prompt_tokens(req);
    r->usage.output_tokens = (int64_t)(out + 3) / 4;
}

static void read_usage(lua_State *L, struct script_reply *r, int at)
{
    static const char *const names[] = {"input_tokens", "output_tokens", "cache_read_input_tokens",
                                        "cache_creation_input_tokens", NULL};
    if (!field_table(L, at, "usage")) {
        default_usage(script_state_of(L)->req, r);
        return;
    }
    int u = lua_gettop(L);
    check_fields(L, u, "'usage'", names);
    r->usage.input_tokens = field_int(L, u, names[0], 0, 1000000000);
    r->usage.output_tokens = field_int(L, u, names[1], 0, 1000000000);
    r->usage.cache_read_tokens = field_int(L, u, names[2], 0, 1000000000);
    r->usage.cache_write_5m_tokens = field_int(L, u, names[3], 0, 1000000000);
}

static void read_refusal(lua_State *L, struct script_reply *r, int at)
{
    static const char *const names[] = {"category", "explanation", NULL};
    if (!field_table(L, at, "refusal"))
        return;
    int f = lua_gettop(L);
    check_fields(L, f, "'refusal'", names);
    r->refusal_category = field_text(L, f, "category");
    r->refusal_explanation = field_text(L, f, "explanation");
    r->stop = MODEL_STOP_REFUSAL;
}

void script_reply_read(lua_State *L, int at)
{
    static const char *const names[] = {"text",   "thinking", "tools", "stop",    "delay_ms",
                                        "chunks", "error",    "usage", "refusal", NULL};
    struct script_state *s = script_state_of(L);
    struct script_reply *r = s->reply;
    at = lua_absindex(L, at);
    if (lua_type(L, at) == LUA_TSTRING) {
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, at);
        lua_setfield(L, -2, "text");
        lua_replace(L, at);
    }
    if (!lua_istable(L, at))
        luaL_error(L, "the script returned a %s instead of a string or a table",
                   luaL_typename(L, at));
    check_fields(L, at, "the answer", names);
    read_blocks(L, r, at);
    read_refusal(L, r, at);
    struct str stop = field_text(L, at, "stop");
    if (str_some(stop))
        r->stop = (enum model_stop)word(L, "stop", stop, stops);
    r->delay_ms = field_int(L, at, "delay_ms", 0, SCRIPT_DELAY_MS);
    r->chunks = field_int(L, at, "chunks", 0, 1000000);
    read_error(L, r, at);
    read_usage(L, r, at);
}
