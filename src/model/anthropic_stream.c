#include "model/anthropic_stream.h"

#include "base/limits.h"

static struct answer_block *block_find(struct answer *s, int64_t wire_index)
{
    for (size_t i = s->nblocks; i-- > 0;) {
        if (s->blocks[i].wire_index == wire_index)
            return &s->blocks[i];
    }
    return NULL;
}

static enum answer_kind kind_of(struct str type)
{
    static const struct {
        const char *type;
        enum answer_kind kind;
    } kinds[] = {{"text", ANSWER_TEXT},
                 {"thinking", ANSWER_THINKING},
                 {"redacted_thinking", ANSWER_REDACTED},
                 {"tool_use", ANSWER_TOOL}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (str_eqz(type, kinds[i].type))
            return kinds[i].kind;
    }
    return ANSWER_SKIPPED;
}

/* A content block as it stands in content_block_start or in a whole message. */
static void block_open(struct answer *s, int64_t wire_index, const struct json *content)
{
    enum answer_kind kind = kind_of(json_get_str(content, "type"));
    struct answer_block *b = answer_open(s, kind, wire_index);
    if (!b)
        return;
    if (kind == ANSWER_THINKING) {
        answer_inside(s, &b->body, json_get(content, "thinking"));
        answer_inside(s, &b->signature, json_get(content, "signature"));
    } else if (kind == ANSWER_REDACTED) {
        buf_str(&b->body, content->raw);
        answer_one_line(&b->body);
    } else if (kind == ANSWER_TOOL) {
        const struct json *input = json_get(content, "input");
        buf_str(&b->signature, json_get_str(content, "name"));
        if (input)
            buf_str(&b->first, input->raw);
        if (b->signature.len == 0) {
            answer_garbled(s, "a tool call without a name");
            return;
        }
    }
    answer_announce(s, b);
    if (kind == ANSWER_TEXT && s->state == ANSWER_OPEN)
        answer_text(s, b, json_get_str(content, "text"));
}

/* What goes to the tool: the streamed pieces, else what content_block_start held, else {}. */
static void block_close(struct answer *s, struct answer_block *b)
{
    if (b->kind == ANSWER_TOOL && !b->stopped && str_trim(buf_view(&b->body)).len == 0) {
        buf_clear(&b->body);
        answer_input(s, b, buf_view(&b->first));
    }
    answer_close(b);
}

/* ---- usage and the way it ended ---- */

/* Counts are cumulative: a later event replaces what an earlier one said, null says nothing. */
static void usage_read(struct answer *s, const struct json *usage)
{
    struct model_usage *u = &s->usage;
    bool in = answer_count(usage, "input_tokens", &u->input_tokens);
    bool out = answer_count(usage, "output_tokens", &u->output_tokens);
    s->usage_known = s->usage_known || in || out;
    (void)answer_count(usage, "cache_read_input_tokens", &u->cache_read_tokens);
    int64_t written = u->cache_write_5m_tokens + u->cache_write_1h_tokens;
    (void)answer_count(usage, "cache_creation_input_tokens", &written);
    const struct json *split = json_get(usage, "cache_creation");
    (void)answer_count(split, "ephemeral_1h_input_tokens", &u->cache_write_1h_tokens);
    /* The total is what is billed; what is not said to live an hour lives five minutes. */
    if (u->cache_write_1h_tokens > written)
        u->cache_write_1h_tokens = written;
    u->cache_write_5m_tokens = written - u->cache_write_1h_tokens;
    if (str_eqz(json_get_str(usage, "speed"), "fast"))
        s->fast = true;
}

static void stop_read(struct answer *s, const struct json *holder)
{
    static const struct {
        const char *reason;
        enum model_stop stop;
    } stops[] = {{"end_turn", MODEL_STOP_END},
                 {"stop_sequence", MODEL_STOP_END},
                 {"tool_use", MODEL_STOP_TOOL_USE},
                 {"max_tokens", MODEL_STOP_MAX_TOKENS},
                 {"pause_turn", MODEL_STOP_PAUSE},
                 {"refusal", MODEL_STOP_REFUSAL},
                 {"model_context_window_exceeded", MODEL_STOP_CONTEXT}};
    struct str reason = json_get_str(holder, "stop_reason");
    for (size_t i = 0; i < COUNT_OF(stops); i++) {
        if (str_eqz(reason, stops[i].reason)) {
            s->stop = stops[i].stop;
            s->stop_known = true;
        }
    }
    const struct json *details = json_get(holder, "stop_details");
    answer_explain(s, json_get_str(details, "category"), json_get_str(details, "explanation"));
}

static void message_stop(struct answer *s)
{
    for (size_t i = 0; i < s->nblocks; i++)
        block_close(s, &s->blocks[i]);
    answer_finish(s);
}

/* ---- events ---- */

static void event_error(struct answer *s, const struct json *data)
{
    s->state = ANSWER_FAILED;
    failure_json(&s->failure, s->names, 0, data);
}

static void event_start(struct answer *s, const struct json *data)
{
    const struct json *message = json_get(data, "message");
    if (s->state != ANSWER_WAITING)
        answer_garbled(s, "a second message_start");
    else if (!json_is(message, JSON_OBJECT))
        answer_garbled(s, "message_start without a message");
    else {
        usage_read(s, json_get(message, "usage"));
        s->state = ANSWER_OPEN;
    }
}

static void event_block_start(struct answer *s, const struct json *data)
{
    const struct json *content = json_get(data, "content_block");
    int64_t index;
    if (!json_i64(json_get(data, "index"), &index) || !json_is(content, JSON_OBJECT))
        answer_garbled(s, "content_block_start without index or content_block");
    else if (block_find(s, index))
        answer_garbled(s, "two content blocks with one index");
    else
        block_open(s, index, content);
}

/* Each kind of delta belongs to one kind of block; what is not listed (citations, ...) is skipped.
 */
static void delta_apply(struct answer *s, struct answer_block *b, const struct json *delta)
{
    struct str type = json_get_str(delta, "type");
    if (b->kind == ANSWER_SKIPPED)
        return;
    enum answer_kind wants = b->kind;
    if (str_eqz(type, "text_delta"))
        wants = ANSWER_TEXT;
    else if (str_eqz(type, "thinking_delta") || str_eqz(type, "signature_delta"))
        wants = ANSWER_THINKING;
    else if (str_eqz(type, "input_json_delta"))
        wants = ANSWER_TOOL;
    else
        return;
    if (wants != b->kind || b->stopped) {
        answer_garbled(s, "a delta that does not fit its content block");
        return;
    }
    if (wants == ANSWER_TEXT)
        answer_text(s, b, json_get_str(delta, "text"));
    else if (str_eqz(type, "thinking_delta"))
        answer_inside(s, &b->body, json_get(delta, "thinking"));
    else if (str_eqz(type, "signature_delta"))
        answer_inside(s, &b->signature, json_get(delta, "signature"));
    else
        answer_input(s, b, json_get_str(delta, "partial_json"));
}

static void event_delta(struct answer *s, const struct json *data)
{
    int64_t index;
    struct answer_block *b =
        json_i64(json_get(data, "index"), &index) ? block_find(s, index) : NULL;
    if (!b)
        answer_garbled(s, "a delta for a content block that was not started");
    else
        delta_apply(s, b, json_get(data, "delta"));
}

static void event_block_stop(struct answer *s, const struct json *data)
{
    int64_t index;
    struct answer_block *b =
        json_i64(json_get(data, "index"), &index) ? block_find(s, index) : NULL;
    if (!b)
        answer_garbled(s, "the end of a content block that was not started");
    else
        block_close(s, b);
}

static void event_message_delta(struct answer *s, const struct json *data)
{
    usage_read(s, json_get(data, "usage"));
    stop_read(s, json_get(data, "delta"));
}

static void event_stop(struct answer *s, const struct json *data)
{
    (void)data;
    message_stop(s);
}

static const struct {
    const char *type;
    bool before_start; /* allowed while waiting for message_start */
    void (*fn)(struct answer *s, const struct json *data);
} events[] = {
    {"message_start", true, event_start},
    {"content_block_start", false, event_block_start},
    {"content_block_delta", false, event_delta},
    {"content_block_stop", false, event_block_stop},
    {"message_delta", false, event_message_delta},
    {"message_stop", false, event_stop},
    {"error", true, event_error},
};

static void dispatch(struct answer *s, struct str type, const struct json *data)
{
    for (size_t i = 0; i < COUNT_OF(events); i++) {
        if (!str_eqz(type, events[i].type))
            continue;
        if (s->state == ANSWER_WAITING && !events[i].before_start)
            answer_garbled(s, "it does not begin with message_start");
        else
            events[i].fn(s, data);
        return;
    }
    /* ping, and what the API may add. */
}

static void on_event(struct answer *s, struct str named, struct str text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *data = answer_json(s, &a, text);
    if (!data)
        return;
    struct str type = json_get_str(data, "type");
    dispatch(s, str_some(type) ? type : named, data);
}

/* Some gateways answer with one JSON message instead of a stream. */
static void on_message(struct answer *s, const struct json *message)
{
    if (str_eqz(json_get_str(message, "type"), "error")) {
        event_error(s, message);
        return;
    }
    const struct json *content = json_get(message, "content");
    if (!json_is(content, JSON_ARRAY)) {
        answer_garbled(s, "a message without content");
        return;
    }
    s->state = ANSWER_OPEN;
    usage_read(s, json_get(message, "usage"));
    stop_read(s, message);
    int64_t index = 0;
    json_for_each (block, content) {
        if (s->state == ANSWER_OPEN)
            block_open(s, index++, block);
    }
    if (s->state == ANSWER_OPEN)
        message_stop(s);
}

const struct answer_decoder anthropic_decoder = {.event = on_event, .message = on_message};
