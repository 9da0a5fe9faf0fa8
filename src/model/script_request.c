/* The request as a script sees it. Its fields are made when first asked for, so that a script that
 * looks at nothing costs nothing, however long the conversation is. */
#include "model/script_lua.h"

static const struct json *messages(lua_State *L)
{
    struct script_state *s = script_state_of(L);
    struct err err;
    if (!s->messages &&
        json_parse(s->arena, s->req->messages, JSON_ALLOW_DUPLICATES, &s->messages, &err))
        luaL_error(L, "the request's messages cannot be read: %s", err.msg);
    return s->messages;
}

static const struct json *parsed(lua_State *L, struct str text)
{
    const struct json *v = NULL;
    struct err err;
    if (text.len && json_parse(script_state_of(L)->arena, text, JSON_ALLOW_DUPLICATES, &v, &err))
        luaL_error(L, "the request cannot be read: %s", err.msg);
    return v;
}

static bool is_role(const struct json *message, const char *role)
{
    return str_eqz(json_get_str(message, "role"), role);
}

static bool is_type(const struct json *block, const char *type)
{
    return str_eqz(json_get_str(block, "type"), type);
}

/* From a person or a program, not the results of tools. */
static bool is_spoken(const struct json *message)
{
    const struct json *content = json_get(message, "content");
    if (!is_role(message, "user"))
        return false;
    if (!json_is(content, JSON_ARRAY))
        return true;
    json_for_each (block, content) {
        if (!is_type(block, "tool_result"))
            return true;
    }
    return false;
}

/* The text of a string, or of the text blocks of an array, joined by line ends. */
static void push_text(lua_State *L, const struct json *content)
{
    if (!json_is(content, JSON_ARRAY)) {
        script_push(L, json_is(content, JSON_STRING) ? content->str : STR(""));
        return;
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    bool more = false;
    json_for_each (block, content) {
        if (!is_type(block, "text"))
            continue;
        struct str text = json_get_str(block, "text");
        if (more)
            luaL_addchar(&b, '\n');
        if (text.len)
            luaL_addlstring(&b, text.ptr, text.len);
        more = true;
    }
    luaL_pushresult(&b);
}

static const struct json *last_spoken(const struct json *list)
{
    const struct json *found = NULL;
    json_for_each (m, list) {
        if (is_spoken(m))
            found = m;
    }
    return found;
}

static const struct json *last_message(const struct json *list)
{
    const struct json *found = NULL;
    json_for_each (m, list)
        found = m;
    return found;
}

/* ---- fields ---- */

static void push_messages(lua_State *L)
{
    script_json_push(L, messages(L));
}

static void push_last(lua_State *L)
{
    script_json_push(L, last_message(messages(L)));
}

static void push_system(lua_State *L)
{
    const struct json *v = parsed(L, script_state_of(L)->req->system);
    push_text(L, v);
}

static void push_tools(lua_State *L)
{
    lua_newtable(L);
    lua_Integer n = 0;
    json_for_each (tool, parsed(L, script_state_of(L)->req->tools)) {
        script_push(L, json_get_str(tool, "name"));
        lua_rawseti(L, -2, ++n);
    }
}

static void push_turn(lua_State *L)
{
    lua_Integer n = 0;
    json_for_each (m, messages(L))
        n += is_spoken(m);
    lua_pushinteger(L, n);
}

static void push_last_text(lua_State *L)
{
    push_text(L, json_get(last_spoken(messages(L)), "content"));
}

static void set_text(lua_State *L, const char *field, struct str text)
{
    script_push(L, text);
    lua_setfield(L, -2, field);
}

/* Completes the table on the top with what a tool answered. */
static void set_result(lua_State *L, const struct json *result)
{
    push_text(L, json_get(result, "content"));
    lua_setfield(L, -2, "content");
    lua_pushboolean(L, json_is_true(json_get(result, "is_error")));
    lua_setfield(L, -2, "is_error");
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "done");
}

/* Appends the tool calls of an assistant's message to the list at -1, and notes them by id in the
 * table at `ids`. */
static void add_calls(lua_State *L, const struct json *message, int ids)
{
    json_for_each (block, json_get(message, "content")) {
        if (!is_type(block, "tool_use"))
            continue;
        lua_newtable(L);
        set_text(L, "id", json_get_str(block, "id"));
        set_text(L, "name", json_get_str(block, "name"));
        script_json_push(L, json_get(block, "input"));
        lua_setfield(L, -2, "input");
        script_push(L, json_get_str(block, "id"));
        lua_pushvalue(L, -2);
        lua_rawset(L, ids);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
}

/* Every tool call since someone last spoke, with its result where there is one; with `last_only`
 * just the results that the last message holds. */
static void push_calls_of(lua_State *L, bool last_only)
{
    const struct json *list = messages(L), *spoken = last_spoken(list);
    const struct json *last = last_message(list);
    lua_newtable(L);
    int ids = lua_gettop(L);
    lua_newtable(L);
    int calls = lua_gettop(L);
    lua_newtable(L);
    for (const struct json *m = last_only || !spoken ? list->child : spoken->next; m; m = m->next) {
        lua_pushvalue(L, calls);
        if (is_role(m, "assistant"))
            add_calls(L, m, ids);
        lua_pop(L, 1);
        if (!is_role(m, "user") || !json_is(json_get(m, "content"), JSON_ARRAY))
            continue;
        json_for_each (block, json_get(m, "content")) {
            if (!is_type(block, "tool_result"))
                continue;
            script_push(L, json_get_str(block, "tool_use_id"));
            if (lua_rawget(L, ids) != LUA_TTABLE) {
                lua_pop(L, 1);
                lua_newtable(L);
                set_text(L, "id", json_get_str(block, "tool_use_id"));
            }
            set_result(L, block);
            if (m == last)
                lua_rawseti(L, calls + 1, (lua_Integer)lua_rawlen(L, calls + 1) + 1);
            else
                lua_pop(L, 1);
        }
    }
    lua_settop(L, calls + 1);
    if (!last_only)
        lua_pop(L, 1);
}

static void push_calls(lua_State *L)
{
    push_calls_of(L, false);
}

static void push_results(lua_State *L)
{
    push_calls_of(L, true);
}

static void push_model(lua_State *L)
{
    script_push(L, script_state_of(L)->req->model);
}

static void push_session(lua_State *L)
{
    script_push(L, script_state_of(L)->req->session_id);
}

static void push_number(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)script_state_of(L)->req->request_number);
}

static void push_purpose(lua_State *L)
{
    static const char *const names[] = {[MODEL_FOR_TURN] = "turn",
                                        [MODEL_FOR_COMPACTION] = "compaction",
                                        [MODEL_FOR_JUDGE] = "judge",
                                        [MODEL_FOR_GRADER] = "grader"};
    lua_pushstring(L, names[script_state_of(L)->req->purpose]);
}

static void push_max_tokens(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)script_state_of(L)->req->max_tokens);
}

static const struct {
    const char *name;
    void (*push)(lua_State *L);
} fields[] = {
    {"model", push_model},
    {"session_id", push_session},
    {"request_number", push_number},
    {"system", push_system},
    {"messages", push_messages},
    {"tools", push_tools},
    {"turn", push_turn},
    {"last", push_last},
    {"text", push_last_text},
    {"results", push_results},
    {"calls", push_calls},
    {"purpose", push_purpose},
    {"max_tokens", push_max_tokens},
};

static int request_index(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (!str_eqz(str_n(name, len), fields[i].name))
            continue;
        fields[i].push(L);
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);
        return 1;
    }
    return luaL_error(L, "the request has no field '%s'", name);
}

void script_request_push(lua_State *L)
{
    lua_newtable(L);
    lua_newtable(L);
    lua_pushcfunction(L, request_index);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "request");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}
