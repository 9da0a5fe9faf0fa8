#include "core/prompt.h"

#include "base/limits.h"
#include "json/writer.h"

void prompt_init(struct prompt *p, size_t max_bytes)
{
    *p = (struct prompt){.messages = BUF_INIT(max_bytes)};
}

void prompt_fini(struct prompt *p)
{
    buf_fini(&p->messages);
}

/* Makes sure that a message of `role` is open and ready for one more content block. */
static void open_block(struct prompt *p, enum prompt_role role)
{
    struct buf *b = &p->messages;
    if (p->open != role) {
        buf_z(b, p->open == PROMPT_NONE ? "[" : "]},");
        buf_z(b, role == PROMPT_USER ? "{\"role\":\"user\",\"content\":["
                                     : "{\"role\":\"assistant\",\"content\":[");
        p->open = role;
        p->comma = false;
    }
    if (p->comma)
        buf_ch(b, ',');
    p->comma = true;
}

static bool is_empty_text(const struct json *block)
{
    return str_eqz(json_get_str(block, "type"), "text") && json_get_str(block, "text").len == 0;
}

static void put_content(struct prompt *p, enum prompt_role role, const struct json *content)
{
    json_for_each (block, content) {
        if (is_empty_text(block))
            continue; /* providers refuse empty text blocks */
        open_block(p, role);
        buf_str(&p->messages, block->raw);
    }
}

static void put_tool_use(struct prompt *p, const struct event *e, const struct json *body)
{
    open_block(p, PROMPT_ASSISTANT);
    struct jw w = jw_to(&p->messages);
    jw_obj(&w);
    jw_kz(&w, "type", "tool_use");
    jw_kstr(&w, "id", id_str(&e->id));
    jw_kstr(&w, "name", json_get_str(body, "name"));
    const struct json *input = json_get(body, "input");
    jw_kraw(&w, "input", input ? input->raw : STR("{}"));
    jw_obj_end(&w);
}

static void put_tool_result(struct prompt *p, struct str tool_use_id, const struct json *body)
{
    open_block(p, PROMPT_USER);
    struct jw w = jw_to(&p->messages);
    jw_obj(&w);
    jw_kz(&w, "type", "tool_result");
    jw_kstr(&w, "tool_use_id", tool_use_id);
    bool some = false;
    json_for_each (block, json_get(body, "content")) {
        if (is_empty_text(block))
            continue;
        if (!some) {
            jw_key(&w, "content");
            jw_arr(&w);
        }
        some = true;
        jw_raw(&w, block->raw);
    }
    if (some)
        jw_arr_end(&w);
    if (json_is_true(json_get(body, "is_error")))
        jw_kbool(&w, "is_error", true);
    jw_obj_end(&w);
}

static bool speaks_to_model(enum event_type t)
{
    return t == EVENT_USER_MESSAGE || t == EVENT_AGENT_MESSAGE || t == EVENT_AGENT_TOOL_USE ||
           t == EVENT_AGENT_CUSTOM_TOOL_USE || t == EVENT_AGENT_TOOL_RESULT ||
           t == EVENT_USER_CUSTOM_TOOL_RESULT;
}

int prompt_fold(struct prompt *p, const struct event *e, struct err *err)
{
    if (e->type == EVENT_AGENT_THINKING && e->transcript.len) {
        open_block(p, PROMPT_ASSISTANT);
        buf_str(&p->messages, e->transcript);
    }
    if (!speaks_to_model(e->type))
        return 0;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body;
    int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    if (rc)
        return err_wrap(err, "event %s", e->id.z);
    if (e->type == EVENT_USER_MESSAGE)
        put_content(p, PROMPT_USER, json_get(body, "content"));
    else if (e->type == EVENT_AGENT_MESSAGE)
        put_content(p, PROMPT_ASSISTANT, json_get(body, "content"));
    else if (e->type == EVENT_AGENT_TOOL_RESULT)
        put_tool_result(p, json_get_str(body, "tool_use_id"), body);
    else if (e->type == EVENT_USER_CUSTOM_TOOL_RESULT)
        put_tool_result(p, json_get_str(body, "custom_tool_use_id"), body);
    else
        put_tool_use(p, e, body);
    return 0;
}

int prompt_messages(struct prompt *p, struct str *out, struct err *err)
{
    if (p->open == PROMPT_NONE) {
        *out = STR("[]");
        return 0;
    }
    /* The closing brackets stand behind the content only as long as this view is used. */
    size_t len = p->messages.len;
    buf_z(&p->messages, "]}]");
    if (!buf_ok(&p->messages))
        return err_set(err, ERR_TOO_LARGE,
                       "The conversation is longer than this server sends to a model.");
    *out = buf_view(&p->messages);
    p->messages.len = len;
    return 0;
}
