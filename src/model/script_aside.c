/* aside(request): what a script answers to a request that is not part of the conversation it plays:
 * a summary when it is asked for one, a verdict when it is the judge of tool calls (core's
 * permission.h says how it is asked and answers) or the grader of an outcome (core's grader.h). nil
 * for every other request. */
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

/* The rest of a line that begins with its number, or an absent view. */
static struct str criterion_of(struct str line, long long want)
{
    int64_t number;
    struct str rest = line, head = str_split(&rest, '.');
    return str_some(rest) && str_i64(head, &number) && number == want ? rest : STR_NONE;
}

static const char *grade_of(struct str criterion)
{
    if (str_find(criterion, STR("danger")) >= 0)
        return "not_met";
    return str_find(criterion, STR("doubt")) >= 0 ? "partially_met" : "met";
}

/* The verdict of a grader that looks at nothing: the same words decide. */
static int grade(lua_State *L, struct script_state *s)
{
    static const char mark[] = "as they are to be judged:\n";
    const struct json *first = messages(s)->child, *reply;
    struct str text = text_of(json_get(first, "content"));
    ptrdiff_t at = str_find(text, str_z(mark));
    struct str rest = at < 0 ? STR_NONE : str_skip(text, (size_t)at + sizeof mark - 1);
    struct err err;
    long long number = 1;
    buf_clear(&s->scratch);
    struct jw w = jw_to(&s->scratch);
    buf_z(&s->scratch, "{\"tools\":[{\"name\":\"submit_verdict\",\"input\":{\"rubric_applies\":"
                       "true,\"criteria\":[");
    while (str_some(rest)) {
        struct str criterion = criterion_of(str_split(&rest, '\n'), number);
        if (!str_some(criterion))
            continue;
        if (number++ > 1)
            buf_ch(&s->scratch, ',');
        jw_obj(&w);
        jw_ki64(&w, "number", number - 1);
        jw_kz(&w, "verdict", grade_of(criterion));
        jw_kz(&w, "comment", "a script says so");
        jw_kz(&w, "evidence", "none was looked for");
        jw_obj_end(&w);
    }
    buf_z(&s->scratch, "]}}]}");
    struct str text_all = arena_str(s->arena, buf_view(&s->scratch));
    if (!str_some(text_all) || json_parse(s->arena, text_all, 0, &reply, &err))
        return luaL_error(L, "the verdict is too large");
    script_json_push(L, reply);
    return 1;
}

int script_aside(lua_State *L)
{
    struct script_state *s = script_state_of(L);
    switch (s->req->purpose) {
    case MODEL_FOR_TURN: break;
    case MODEL_FOR_COMPACTION: return summary(L, s);
    case MODEL_FOR_JUDGE: return verdicts(L, s);
    case MODEL_FOR_GRADER: return grade(L, s);
    }
    lua_pushnil(L);
    return 1;
}
