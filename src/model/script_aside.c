/* aside(request): what a script answers to a request that is not part of the conversation it plays:
 * a summary when it is asked for one, a verdict when it is the judge of tool calls (core's
 * permission.h says how it is asked and answers). nil for every other request. */
#include "json/writer.h"
#include "model/script_lua.h"

static struct str text_of(const struct json *content)
{
    if (json_is(content, JSON_STRING))
        return content->str;
    json_for_each (block, content) {
        if (str_eqz(json_get_str(block, "type"), "text"))
            return json_get_str(block, "text");
    }
    return STR_NONE;
}

static const struct json *messages(struct script_state *s)
{
    const struct json *list = NULL;
    struct err err;
    if (json_parse(s->arena, s->req->messages, JSON_ALLOW_DUPLICATES, &list, &err))
        return NULL;
    return list;
}

static int summary(lua_State *L, struct script_state *s)
{
    const struct json *list = messages(s);
    lua_pushfstring(L, "A summary by a script, of %I messages.",
                    (LUAI_UACINT)(list ? list->count : 0));
    return 1;
}

/* The words that decide stand for what a judge would have to think about. */
static const char *verdict_of(struct str input)
{
    if (str_find(input, STR("danger")) >= 0)
        return "deny";
    return str_find(input, STR("doubt")) >= 0 ? "ask" : "allow";
}

static int verdicts(lua_State *L, struct script_state *s)
{
    const struct json *last = NULL, *asked = NULL;
    struct err err;
    json_for_each (m, messages(s))
        last = m;
    struct str text = text_of(json_get(last, "content"));
    if (json_parse(s->arena, text, 0, &asked, &err))
        return luaL_error(L, "the judge's request cannot be read: %s", err.msg);
    buf_clear(&s->scratch);
    struct jw w = jw_to(&s->scratch);
    jw_obj(&w);
    jw_key(&w, "verdicts");
    jw_arr(&w);
    json_for_each (call, json_get(asked, "calls")) {
        const struct json *number = json_get(call, "call");
        jw_obj(&w);
        jw_kraw(&w, "call", number ? number->raw : STR("null"));
        jw_kz(&w, "verdict", verdict_of(json_get_str(call, "input")));
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    script_push(L, buf_view(&s->scratch));
    return 1;
}

int script_aside(lua_State *L)
{
    struct script_state *s = script_state_of(L);
    switch (s->req->purpose) {
    case MODEL_FOR_TURN: break;
    case MODEL_FOR_COMPACTION: return summary(L, s);
    case MODEL_FOR_JUDGE: return verdicts(L, s);
    }
    lua_pushnil(L);
    return 1;
}
