#include "model/anthropic_stream.h"

#include "base/limits.h"
#include "json/writer.h"

enum kind { TEXT, THINKING, REDACTED, TOOL, SKIPPED };

struct anthropic_block {
    int64_t wire_index;
    enum kind kind;
    bool stopped;
    /* TEXT: text. THINKING: the inside of its JSON string, escapes untouched. REDACTED: the whole
     * block. TOOL: the input's JSON. */
    struct buf body;
    struct buf signature; /* THINKING: the inside of its JSON string; TOOL: the name */
    struct buf first;     /* TOOL: the input that content_block_start brought */
    bool input_malformed;
    size_t index; /* in the result */
};

static const struct model_callbacks no_callbacks;

static void on_event(void *arg, const struct sse_event *ev);

void anthropic_stream_init(struct anthropic_stream *s, const struct model_callbacks *cb, void *arg)
{
    *s = (struct anthropic_stream){.cb = cb ? cb : &no_callbacks, .arg = arg};
    sse_reader_init(&s->sse, LIMIT_SSE_EVENT, on_event, s);
    buf_init(&s->category, 256);
    buf_init(&s->explanation, 64 * 1024);
}

void anthropic_stream_fini(struct anthropic_stream *s)
{
    for (size_t i = 0; i < s->nblocks; i++) {
        buf_fini(&s->blocks[i].body);
        buf_fini(&s->blocks[i].signature);
        buf_fini(&s->blocks[i].first);
    }
    mem_free(s->blocks);
    mem_free(s->out);
    buf_fini(&s->category);
    buf_fini(&s->explanation);
    sse_reader_fini(&s->sse);
}

void anthropic_stream_stop(struct anthropic_stream *s)
{
    s->state = ANTHROPIC_STOPPED;
}

static void garbled(struct anthropic_stream *s, const char *what)
{
    s->state = ANTHROPIC_FAILED;
    s->failure.kind = MODEL_ERR_FAILED;
    anthropic_error_text(&s->failure, "the model's answer is garbled: %s", what);
}

/* ---- blocks ---- */

static struct anthropic_block *block_find(struct anthropic_stream *s, int64_t wire_index)
{
    for (size_t i = s->nblocks; i-- > 0;) {
        if (s->blocks[i].wire_index == wire_index)
            return &s->blocks[i];
    }
    return NULL;
}

static struct anthropic_block *block_add(struct anthropic_stream *s, int64_t wire_index,
                                         enum kind kind)
{
    if (s->nblocks == s->cap_blocks) {
        s->cap_blocks = s->cap_blocks ? s->cap_blocks * 2 : 8;
        s->blocks = mem_realloc(s->blocks, s->cap_blocks * sizeof *s->blocks);
    }
    struct anthropic_block *b = &s->blocks[s->nblocks++];
    *b = (struct anthropic_block){.wire_index = wire_index, .kind = kind};
    buf_init(&b->body, LIMIT_MODEL_RESPONSE);
    buf_init(&b->signature, LIMIT_MODEL_RESPONSE);
    buf_init(&b->first, LIMIT_MODEL_RESPONSE);
    if (kind != SKIPPED)
        b->index = s->nresult++;
    return b;
}

static enum kind kind_of(struct str type)
{
    static const struct {
        const char *type;
        enum kind kind;
    } kinds[] = {{"text", TEXT},
                 {"thinking", THINKING},
                 {"redacted_thinking", REDACTED},
                 {"tool_use", TOOL}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (str_eqz(type, kinds[i].type))
            return kinds[i].kind;
    }
    return SKIPPED;
}

/* The inside of a JSON string as it was sent: pieces can be joined without decoding. */
static void put_inside(struct buf *b, const struct json *string)
{
    if (json_is(string, JSON_STRING))
        buf_str(b, str_n(string->raw.ptr + 1, string->raw.len - 2));
}

static void text_piece(struct anthropic_stream *s, struct anthropic_block *b, struct str text)
{
    if (text.len == 0)
        return;
    buf_str(&b->body, text);
    if (s->cb->text_delta)
        s->cb->text_delta(s->arg, b->index, text);
}

static void block_start_call(struct anthropic_stream *s, const struct anthropic_block *b)
{
    static const enum model_block_type types[] = {[TEXT] = MODEL_TEXT,
                                                  [THINKING] = MODEL_THINKING,
                                                  [REDACTED] = MODEL_THINKING,
                                                  [TOOL] = MODEL_TOOL_USE};
    if (b->kind != SKIPPED && s->cb->block_start)
        s->cb->block_start(s->arg, b->index, types[b->kind]);
}

/* In JSON a line end can only stand between tokens, where a blank means the same. Events carry this
 * text in one line of a stream. */
static void one_line(struct buf *json)
{
    for (size_t i = 0; i < json->len; i++) {
        if (json->data[i] == '\n' || json->data[i] == '\r')
            json->data[i] = ' ';
    }
}

/* A content block as it stands in content_block_start or in a whole message. */
static void block_open(struct anthropic_stream *s, int64_t wire_index, const struct json *content)
{
    enum kind kind = kind_of(json_get_str(content, "type"));
    if (s->nblocks >= LIMIT_CONTENT_BLOCKS) {
        garbled(s, "too many content blocks");
        return;
    }
    struct anthropic_block *b = block_add(s, wire_index, kind);
    if (kind == THINKING) {
        put_inside(&b->body, json_get(content, "thinking"));
        put_inside(&b->signature, json_get(content, "signature"));
    } else if (kind == REDACTED) {
        buf_str(&b->body, content->raw);
        one_line(&b->body);
    } else if (kind == TOOL) {
        const struct json *input = json_get(content, "input");
        buf_str(&b->signature, json_get_str(content, "name"));
        if (input)
            buf_str(&b->first, input->raw);
        if (b->signature.len == 0) {
            garbled(s, "a tool call without a name");
            return;
        }
    }
    /* Blocks may move when the next one is added by a later event, never inside this function. */
    block_start_call(s, b);
    if (kind == TEXT && s->state == ANTHROPIC_OPEN)
        text_piece(s, b, json_get_str(content, "text"));
}

/* What goes to the tool: the streamed pieces, else what content_block_start held, else {}. */
static void tool_close(struct anthropic_block *b)
{
    if (str_trim(buf_view(&b->body)).len == 0) {
        buf_clear(&b->body);
        buf_str(&b->body, b->first.len ? buf_view(&b->first) : STR("{}"));
    }
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *input;
    struct err err;
    b->input_malformed =
        json_parse(&a, buf_view(&b->body), JSON_ALLOW_DUPLICATES, &input, &err) != 0 ||
        input->type != JSON_OBJECT;
    if (!b->input_malformed)
        one_line(&b->body);
}

static void block_close(struct anthropic_block *b)
{
    if (b->stopped)
        return;
    b->stopped = true;
    if (b->kind == TOOL)
        tool_close(b);
    if (b->kind != THINKING)
        return;
    struct buf raw = BUF_INIT(LIMIT_MODEL_RESPONSE + 256);
    buf_z(&raw, "{\"type\":\"thinking\",\"thinking\":\"");
    buf_str(&raw, buf_view(&b->body));
    buf_z(&raw, "\",\"signature\":\"");
    buf_str(&raw, buf_view(&b->signature));
    buf_z(&raw, "\"}");
    buf_fini(&b->body);
    b->body = raw;
}

/* ---- usage and the way it ended ---- */

static void count(const struct json *usage, const char *name, int64_t *out)
{
    int64_t n;
    /* Beyond any real count: a number that must not be priced. */
    if (json_i64(json_get(usage, name), &n) && n >= 0 && n < INT64_C(1000000000000))
        *out = n;
}

/* Counts are cumulative: a later event replaces what an earlier one said, null says nothing. */
static void usage_read(struct anthropic_stream *s, const struct json *usage)
{
    struct model_usage *u = &s->usage;
    count(usage, "input_tokens", &u->input_tokens);
    count(usage, "output_tokens", &u->output_tokens);
    count(usage, "cache_read_input_tokens", &u->cache_read_tokens);
    int64_t written = u->cache_write_5m_tokens + u->cache_write_1h_tokens;
    count(usage, "cache_creation_input_tokens", &written);
    const struct json *split = json_get(usage, "cache_creation");
    count(split, "ephemeral_1h_input_tokens", &u->cache_write_1h_tokens);
    /* The total is what is billed; what is not said to live an hour lives five minutes. */
    if (u->cache_write_1h_tokens > written)
        u->cache_write_1h_tokens = written;
    u->cache_write_5m_tokens = written - u->cache_write_1h_tokens;
    if (str_eqz(json_get_str(usage, "speed"), "fast"))
        s->fast = true;
}

static void stop_read(struct anthropic_stream *s, const struct json *holder)
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
    struct str category = json_get_str(details, "category");
    struct str explanation = json_get_str(details, "explanation");
    if (str_some(category)) {
        buf_clear(&s->category);
        buf_str(&s->category, category);
        s->has_category = buf_ok(&s->category);
    }
    if (str_some(explanation)) {
        buf_clear(&s->explanation);
        buf_str(&s->explanation, str_utf8_take(explanation, s->explanation.max));
        s->has_explanation = true;
    }
}

static struct str some(const struct buf *b)
{
    return b->len ? buf_view(b) : STR("");
}

static void result_block(struct model_block *out, const struct anthropic_block *b)
{
    switch (b->kind) {
    case TEXT: *out = (struct model_block){.type = MODEL_TEXT, .text = some(&b->body)}; break;
    case THINKING:
    case REDACTED:
        *out = (struct model_block){.type = MODEL_THINKING, .raw = some(&b->body)};
        break;
    case TOOL:
        *out = (struct model_block){.type = MODEL_TOOL_USE,
                                    .name = some(&b->signature),
                                    .input = some(&b->body),
                                    .input_malformed = b->input_malformed};
        break;
    case SKIPPED: break;
    }
}

static void message_stop(struct anthropic_stream *s)
{
    bool tools = false, room = true;
    s->out = mem_zalloc((s->nresult + 1) * sizeof *s->out);
    for (size_t i = 0; i < s->nblocks; i++) {
        struct anthropic_block *b = &s->blocks[i];
        block_close(b);
        room = room && buf_ok(&b->body) && buf_ok(&b->signature);
        tools = tools || b->kind == TOOL;
        if (b->kind != SKIPPED)
            result_block(&s->out[b->index], b);
    }
    if (!room) {
        garbled(s, "it is too long");
        return;
    }
    /* Gateways differ in what they say. A tool call that is not answered would make every later
     * request invalid, and a tool stop without a call would wait for nothing. */
    if (!s->stop_known || s->stop == MODEL_STOP_END || s->stop == MODEL_STOP_TOOL_USE)
        s->stop = tools ? MODEL_STOP_TOOL_USE : MODEL_STOP_END;
    s->result = (struct model_result){
        .blocks = s->out,
        .nblocks = s->nresult,
        .stop = s->stop,
        .refusal_category = s->has_category ? some(&s->category) : STR_NONE,
        .refusal_explanation = s->has_explanation ? some(&s->explanation) : STR_NONE,
        .usage = s->usage};
    s->state = ANTHROPIC_DONE;
}

/* ---- events ---- */

static void event_error(struct anthropic_stream *s, const struct json *data)
{
    const struct json *error = json_get(data, "error");
    s->state = ANTHROPIC_FAILED;
    anthropic_error_set(&s->failure, 0, json_get_str(error, "type"),
                        json_get_str(error, "message"));
}

static void event_start(struct anthropic_stream *s, const struct json *data)
{
    const struct json *message = json_get(data, "message");
    if (s->state != ANTHROPIC_WAITING)
        garbled(s, "a second message_start");
    else if (!json_is(message, JSON_OBJECT))
        garbled(s, "message_start without a message");
    else {
        usage_read(s, json_get(message, "usage"));
        s->state = ANTHROPIC_OPEN;
    }
}

static void event_block_start(struct anthropic_stream *s, const struct json *data)
{
    const struct json *content = json_get(data, "content_block");
    int64_t index;
    if (!json_i64(json_get(data, "index"), &index) || !json_is(content, JSON_OBJECT))
        garbled(s, "content_block_start without index or content_block");
    else if (block_find(s, index))
        garbled(s, "two content blocks with one index");
    else
        block_open(s, index, content);
}

/* Each kind of delta belongs to one kind of block; what is not listed (citations, ...) is skipped.
 */
static void delta_apply(struct anthropic_stream *s, struct anthropic_block *b,
                        const struct json *delta)
{
    struct str type = json_get_str(delta, "type");
    if (b->kind == SKIPPED)
        return;
    enum kind wants = b->kind;
    if (str_eqz(type, "text_delta"))
        wants = TEXT;
    else if (str_eqz(type, "thinking_delta") || str_eqz(type, "signature_delta"))
        wants = THINKING;
    else if (str_eqz(type, "input_json_delta"))
        wants = TOOL;
    else
        return;
    if (wants != b->kind || b->stopped) {
        garbled(s, "a delta that does not fit its content block");
        return;
    }
    if (wants == TEXT)
        text_piece(s, b, json_get_str(delta, "text"));
    else if (str_eqz(type, "thinking_delta"))
        put_inside(&b->body, json_get(delta, "thinking"));
    else if (str_eqz(type, "signature_delta"))
        put_inside(&b->signature, json_get(delta, "signature"));
    else
        buf_str(&b->body, json_get_str(delta, "partial_json"));
}

static void event_delta(struct anthropic_stream *s, const struct json *data)
{
    int64_t index;
    struct anthropic_block *b =
        json_i64(json_get(data, "index"), &index) ? block_find(s, index) : NULL;
    if (!b)
        garbled(s, "a delta for a content block that was not started");
    else
        delta_apply(s, b, json_get(data, "delta"));
}

static void event_block_stop(struct anthropic_stream *s, const struct json *data)
{
    int64_t index;
    struct anthropic_block *b =
        json_i64(json_get(data, "index"), &index) ? block_find(s, index) : NULL;
    if (!b)
        garbled(s, "the end of a content block that was not started");
    else
        block_close(b);
}

static void event_message_delta(struct anthropic_stream *s, const struct json *data)
{
    usage_read(s, json_get(data, "usage"));
    stop_read(s, json_get(data, "delta"));
}

static void event_stop(struct anthropic_stream *s, const struct json *data)
{
    (void)data;
    message_stop(s);
}

static const struct {
    const char *type;
    bool before_start; /* allowed while waiting for message_start */
    void (*fn)(struct anthropic_stream *s, const struct json *data);
} events[] = {
    {"message_start", true, event_start},
    {"content_block_start", false, event_block_start},
    {"content_block_delta", false, event_delta},
    {"content_block_stop", false, event_block_stop},
    {"message_delta", false, event_message_delta},
    {"message_stop", false, event_stop},
    {"error", true, event_error},
};

static void dispatch(struct anthropic_stream *s, struct str type, const struct json *data)
{
    for (size_t i = 0; i < COUNT_OF(events); i++) {
        if (!str_eqz(type, events[i].type))
            continue;
        if (s->state == ANTHROPIC_WAITING && !events[i].before_start)
            garbled(s, "it does not begin with message_start");
        else
            events[i].fn(s, data);
        return;
    }
    /* ping, and what the API may add. */
}

static void on_event(void *arg, const struct sse_event *ev)
{
    struct anthropic_stream *s = arg;
    if (anthropic_stream_over(s) || ev->data.len == 0)
        return;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *data;
    struct err err;
    if (json_parse(&a, ev->data, JSON_ALLOW_DUPLICATES, &data, &err) || data->type != JSON_OBJECT) {
        garbled(s, "an event that is not a JSON object");
        return;
    }
    struct str type = json_get_str(data, "type");
    dispatch(s, str_some(type) ? type : ev->type, data);
}

/* ---- entry points ---- */

void anthropic_stream_feed(struct anthropic_stream *s, struct str bytes)
{
    if (anthropic_stream_over(s))
        return;
    struct err err;
    s->fed_bytes += bytes.len;
    if (s->fed_bytes > LIMIT_MODEL_RESPONSE || sse_reader_feed(&s->sse, bytes, &err)) {
        if (!anthropic_stream_over(s))
            garbled(s, "it is too long");
    }
}

void anthropic_stream_message(struct anthropic_stream *s, struct str text)
{
    if (s->state != ANTHROPIC_WAITING)
        return;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *message;
    struct err err;
    if (json_parse(&a, text, JSON_ALLOW_DUPLICATES, &message, &err)) {
        garbled(s, "neither a stream nor JSON");
        return;
    }
    if (str_eqz(json_get_str(message, "type"), "error")) {
        event_error(s, message);
        return;
    }
    const struct json *content = json_get(message, "content");
    if (!json_is(content, JSON_ARRAY)) {
        garbled(s, "a message without content");
        return;
    }
    s->state = ANTHROPIC_OPEN;
    usage_read(s, json_get(message, "usage"));
    stop_read(s, message);
    int64_t index = 0;
    json_for_each (block, content) {
        if (s->state == ANTHROPIC_OPEN)
            block_open(s, index++, block);
    }
    if (s->state == ANTHROPIC_OPEN)
        message_stop(s);
}

void anthropic_stream_end(struct anthropic_stream *s, const char *why)
{
    if (anthropic_stream_over(s))
        return;
    s->state = ANTHROPIC_FAILED;
    s->failure.kind = MODEL_ERR_FAILED;
    anthropic_error_text(&s->failure, "the model's answer was cut before its end%s%s",
                         why ? ": " : "", why ? why : "");
}
