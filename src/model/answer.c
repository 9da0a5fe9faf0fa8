#include "model/answer.h"

#include "base/limits.h"

static const struct model_callbacks no_callbacks;

static void on_event(void *arg, const struct sse_event *ev)
{
    struct answer *s = arg;
    if (!answer_over(s) && ev->data.len)
        s->decoder->event(s, ev->type, ev->data);
}

void answer_init(struct answer *s, const struct answer_decoder *decoder,
                 const struct model_callbacks *cb, void *arg)
{
    *s = (struct answer){.decoder = decoder, .cb = cb ? cb : &no_callbacks, .arg = arg};
    sse_reader_init(&s->sse, LIMIT_SSE_EVENT, on_event, s);
    buf_init(&s->category, 256);
    buf_init(&s->explanation, 64 * 1024);
}

void answer_fini(struct answer *s)
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

void answer_stop(struct answer *s)
{
    s->state = ANSWER_STOPPED;
}

void answer_garbled(struct answer *s, const char *what)
{
    s->state = ANSWER_FAILED;
    s->failure.kind = MODEL_ERR_FAILED;
    failure_text(&s->failure, "the model's answer is garbled: %s", what);
}

/* ---- blocks ---- */

struct answer_block *answer_open(struct answer *s, enum answer_kind kind, int64_t wire_index)
{
    if (s->nblocks >= LIMIT_CONTENT_BLOCKS) {
        answer_garbled(s, "too many content blocks");
        return NULL;
    }
    if (s->nblocks == s->cap_blocks) {
        s->cap_blocks = s->cap_blocks ? s->cap_blocks * 2 : 4;
        s->blocks = mem_realloc(s->blocks, s->cap_blocks * sizeof *s->blocks);
    }
    struct answer_block *b = &s->blocks[s->nblocks++];
    *b = (struct answer_block){.wire_index = wire_index, .kind = kind};
    buf_init(&b->body, LIMIT_MODEL_RESPONSE);
    buf_init(&b->signature, LIMIT_MODEL_RESPONSE);
    buf_init(&b->first, LIMIT_MODEL_RESPONSE);
    if (kind != ANSWER_SKIPPED)
        b->index = s->nresult++;
    return b;
}

void answer_announce(struct answer *s, const struct answer_block *b)
{
    static const enum model_block_type types[] = {[ANSWER_TEXT] = MODEL_TEXT,
                                                  [ANSWER_THINKING] = MODEL_THINKING,
                                                  [ANSWER_REDACTED] = MODEL_THINKING,
                                                  [ANSWER_TOOL] = MODEL_TOOL_USE};
    if (b->kind != ANSWER_SKIPPED && s->cb->block_start)
        s->cb->block_start(s->arg, b->index, types[b->kind]);
}

void answer_text(struct answer *s, struct answer_block *b, struct str text)
{
    if (text.len == 0)
        return;
    s->said_bytes += text.len;
    buf_str(&b->body, text);
    if (s->cb->text_delta)
        s->cb->text_delta(s->arg, b->index, text);
}

void answer_inside(struct answer *s, struct buf *to, const struct json *string)
{
    if (!json_is(string, JSON_STRING))
        return;
    s->said_bytes += string->str.len;
    buf_str(to, str_n(string->raw.ptr + 1, string->raw.len - 2));
}

void answer_input(struct answer *s, struct answer_block *b, struct str json)
{
    s->said_bytes += json.len;
    buf_str(&b->body, json);
}

/* In JSON a line end can only stand between tokens, where a blank means the same. Events carry this
 * text in one line of a stream. */
void answer_one_line(struct buf *json)
{
    for (size_t i = 0; i < json->len; i++) {
        if (json->data[i] == '\n' || json->data[i] == '\r')
            json->data[i] = ' ';
    }
}

bool answer_is_object(struct str text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *v;
    struct err err;
    return json_parse(&a, text, JSON_ALLOW_DUPLICATES, &v, &err) == 0 && v->type == JSON_OBJECT;
}

static void tool_close(struct answer_block *b)
{
    if (str_trim(buf_view(&b->body)).len == 0) {
        buf_clear(&b->body);
        buf_z(&b->body, "{}");
    }
    b->input_malformed = !answer_is_object(buf_view(&b->body));
    if (!b->input_malformed)
        answer_one_line(&b->body);
}

void answer_close(struct answer_block *b)
{
    if (b->stopped)
        return;
    b->stopped = true;
    if (b->kind == ANSWER_TOOL)
        tool_close(b);
    if (b->kind != ANSWER_THINKING)
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

bool answer_count(const struct json *usage, const char *name, int64_t *out)
{
    int64_t n;
    /* Beyond any real count: a number that must not be priced. */
    if (!json_i64(json_get(usage, name), &n) || n < 0 || n >= INT64_C(1000000000000))
        return false;
    *out = n;
    return true;
}

void answer_explain(struct answer *s, struct str category, struct str explanation)
{
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

static void result_block(struct model_block *out, const struct answer_block *b)
{
    switch (b->kind) {
    case ANSWER_TEXT:
        *out = (struct model_block){.type = MODEL_TEXT, .text = some(&b->body)};
        break;
    case ANSWER_THINKING:
    case ANSWER_REDACTED:
        *out = (struct model_block){.type = MODEL_THINKING, .raw = some(&b->body)};
        break;
    case ANSWER_TOOL:
        *out = (struct model_block){.type = MODEL_TOOL_USE,
                                    .name = some(&b->signature),
                                    .input = some(&b->body),
                                    .input_malformed = b->input_malformed};
        break;
    case ANSWER_SKIPPED: break;
    }
}

void answer_finish(struct answer *s)
{
    bool tools = false, room = true, named = true;
    s->out = mem_zalloc((s->nresult + 1) * sizeof *s->out);
    for (size_t i = 0; i < s->nblocks; i++) {
        struct answer_block *b = &s->blocks[i];
        answer_close(b);
        room = room && buf_ok(&b->body) && buf_ok(&b->signature);
        tools = tools || b->kind == ANSWER_TOOL;
        named = named && (b->kind != ANSWER_TOOL || b->signature.len);
        if (b->kind != ANSWER_SKIPPED)
            result_block(&s->out[b->index], b);
    }
    if (!room || !named) {
        answer_garbled(s, room ? "a tool call without a name" : "it is too long");
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
    s->state = ANSWER_DONE;
}

/* ---- entry points ---- */

const struct json *answer_json(struct answer *s, struct arena *a, struct str data)
{
    const struct json *doc;
    struct err err;
    if (json_parse(a, data, JSON_ALLOW_DUPLICATES, &doc, &err) == 0 && doc->type == JSON_OBJECT)
        return doc;
    answer_garbled(s, "an event that is not a JSON object");
    return NULL;
}

void answer_feed(struct answer *s, struct str bytes)
{
    if (answer_over(s))
        return;
    struct err err;
    s->fed_bytes += bytes.len;
    if (s->fed_bytes > LIMIT_MODEL_RESPONSE || sse_reader_feed(&s->sse, bytes, &err)) {
        if (!answer_over(s))
            answer_garbled(s, "it is too long");
    }
}

void answer_message(struct answer *s, struct str text)
{
    if (s->state != ANSWER_WAITING)
        return;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc;
    struct err err;
    if (json_parse(&a, text, JSON_ALLOW_DUPLICATES, &doc, &err)) {
        answer_garbled(s, "neither a stream nor JSON");
        return;
    }
    s->decoder->message(s, doc);
}

void answer_end(struct answer *s, const char *why)
{
    /* A stream that may just end may do so without the blank line behind its last event. */
    if (s->decoder->finish && !why)
        answer_feed(s, STR("\n\n"));
    if (answer_over(s))
        return;
    if (answer_settled(s)) {
        s->decoder->finish(s);
        return;
    }
    s->state = ANSWER_FAILED;
    s->failure.kind = MODEL_ERR_FAILED;
    failure_text(&s->failure, "the model's answer was cut before its end%s%s", why ? ": " : "",
                 why ? why : "");
}
