#include "model/openai_stream.h"

#include "base/limits.h"

/* A message has one text, one chain of thought and a list of tool calls, in no order: so an answer
 * becomes at most one text block, one thinking block and the calls, in the order in which each was
 * first heard of. */

enum { NO_INDEX = -1 }; /* of a call that came without one */

static struct answer_block *block_of(struct answer *s, enum answer_kind kind)
{
    if (s->state != ANSWER_OPEN) /* stopped inside a call-back */
        return NULL;
    for (size_t i = 0; i < s->nblocks; i++) {
        if (s->blocks[i].kind == kind)
            return &s->blocks[i];
    }
    struct answer_block *b = answer_open(s, kind, NO_INDEX);
    if (b)
        answer_announce(s, b);
    return s->state == ANSWER_OPEN ? b : NULL;
}

static void text_piece(struct answer *s, struct str text)
{
    struct answer_block *b = text.len ? block_of(s, ANSWER_TEXT) : NULL;
    if (b)
        answer_text(s, b, text);
}

static void thought_piece(struct answer *s, const struct json *string)
{
    bool some = json_is(string, JSON_STRING) && string->str.len;
    struct answer_block *b = some ? block_of(s, ANSWER_THINKING) : NULL;
    if (b)
        answer_inside(s, &b->body, string);
}

/* A string, or a list of parts: {"type":"text","text":..}, {"type":"thinking","thinking":..}. */
static void content_read(struct answer *s, const struct json *content)
{
    if (json_is(content, JSON_STRING)) {
        text_piece(s, content->str);
        return;
    }
    if (!json_is(content, JSON_ARRAY))
        return;
    json_for_each (part, content) {
        const struct json *thought = json_get(part, "thinking");
        if (s->state != ANSWER_OPEN)
            return;
        text_piece(s, json_get_str(part, "text"));
        thought_piece(s, thought);
        if (!json_is(thought, JSON_ARRAY))
            continue;
        json_for_each (piece, thought) {
            if (s->state == ANSWER_OPEN)
                thought_piece(s, json_get(piece, "text"));
        }
    }
}

/* ---- tool calls ---- */

static struct answer_block *call_last(struct answer *s)
{
    for (size_t i = s->nblocks; i-- > 0;) {
        if (s->blocks[i].kind == ANSWER_TOOL)
            return &s->blocks[i];
    }
    return NULL;
}

static struct answer_block *call_find(struct answer *s, int64_t index, struct str id)
{
    for (size_t i = s->nblocks; i-- > 0;) {
        struct answer_block *b = &s->blocks[i];
        if (b->kind != ANSWER_TOOL)
            continue;
        if (index != NO_INDEX ? b->wire_index == index : str_eq(buf_view(&b->first), id))
            return b;
    }
    return NULL;
}

/* The call that a piece belongs to; NULL: a new one begins. Servers leave out index, id or both,
 * give every call the index 0, or repeat id and name with every piece. */
static struct answer_block *call_of(struct answer *s, const struct json *piece, int64_t index,
                                    struct str name)
{
    struct str id = json_get_str(piece, "id");
    struct answer_block *b = index == NO_INDEX && id.len == 0 ? (name.len ? NULL : call_last(s))
                                                              : call_find(s, index, id);
    if (!b && index == NO_INDEX && name.len == 0) /* an id of its own for each piece */
        return call_last(s);
    if (!b || name.len == 0)
        return b;
    if (id.len && b->first.len)
        return str_eq(buf_view(&b->first), id) ? b : NULL;
    /* A name again, and nothing to tell the calls apart: is the one we have complete? */
    return b->signature.len && answer_is_object(buf_view(&b->body)) ? NULL : b;
}

/* Arguments are a string of JSON; some servers send the object itself. */
static void arguments_read(struct answer *s, struct answer_block *b, const struct json *arguments)
{
    if (json_is(arguments, JSON_STRING))
        answer_input(s, b, arguments->str);
    else if (arguments && arguments->type != JSON_NULL)
        answer_input(s, b, arguments->raw);
}

static void call_piece(struct answer *s, const struct json *piece)
{
    const struct json *function = json_get(piece, "function");
    struct str name = json_get_str(function, "name"), id = json_get_str(piece, "id");
    int64_t index;
    if (!json_i64(json_get(piece, "index"), &index) || index < 0)
        index = NO_INDEX;
    struct answer_block *b = call_of(s, piece, index, name);
    bool fresh = !b;
    if (fresh)
        b = answer_open(s, ANSWER_TOOL, index);
    if (!b)
        return;
    if (b->first.len == 0)
        buf_str(&b->first, id);
    if (b->signature.len == 0)
        buf_str(&b->signature, name);
    arguments_read(s, b, json_get(function, "arguments"));
    if (fresh)
        answer_announce(s, b);
}

static void calls_read(struct answer *s, const struct json *message)
{
    json_for_each (piece, json_get(message, "tool_calls")) {
        if (s->state == ANSWER_OPEN && piece->type == JSON_OBJECT)
            call_piece(s, piece);
    }
    /* The older form: one call, without an id. */
    const struct json *function = json_get(message, "function_call");
    if (s->state != ANSWER_OPEN || !json_is(function, JSON_OBJECT))
        return;
    struct answer_block *b = call_last(s);
    if (!b && (b = answer_open(s, ANSWER_TOOL, NO_INDEX)))
        answer_announce(s, b);
    if (!b || s->state != ANSWER_OPEN)
        return;
    if (b->signature.len == 0)
        buf_str(&b->signature, json_get_str(function, "name"));
    arguments_read(s, b, json_get(function, "arguments"));
}

/* ---- usage and the way it ended ---- */

/* The count may come once at the end, with every chunk, or not at all. */
static void usage_read(struct answer *s, const struct json *usage)
{
    struct model_usage *u = &s->usage;
    int64_t prompt = u->input_tokens + u->cache_read_tokens;
    bool in = answer_count(usage, "prompt_tokens", &prompt);
    bool out = answer_count(usage, "completion_tokens", &u->output_tokens);
    (void)answer_count(json_get(usage, "prompt_tokens_details"), "cached_tokens",
                       &u->cache_read_tokens);
    if (u->cache_read_tokens > prompt)
        u->cache_read_tokens = prompt;
    u->input_tokens = prompt - u->cache_read_tokens;
    s->usage_known = s->usage_known || in || out;
}

/* llama.cpp's own, where usage is missing: prompt_n does not hold what came from its cache. */
static void timings_read(struct answer *s, const struct json *timings)
{
    if (s->usage_known || !timings)
        return;
    bool in = answer_count(timings, "prompt_n", &s->usage.input_tokens);
    bool out = answer_count(timings, "predicted_n", &s->usage.output_tokens);
    (void)answer_count(timings, "cache_n", &s->usage.cache_read_tokens);
    s->usage_known = in && out;
}

static void stop_read(struct answer *s, struct str reason)
{
    static const struct {
        const char *reason;
        enum model_stop stop;
    } stops[] = {{"stop", MODEL_STOP_END},
                 {"length", MODEL_STOP_MAX_TOKENS},
                 {"max_tokens", MODEL_STOP_MAX_TOKENS},
                 {"model_length", MODEL_STOP_MAX_TOKENS},
                 {"tool_calls", MODEL_STOP_TOOL_USE},
                 {"function_call", MODEL_STOP_TOOL_USE},
                 {"content_filter", MODEL_STOP_REFUSAL}};
    if (reason.len == 0) /* null and "" stand in chunks before the last */
        return;
    if (str_eqz(reason, "error")) {
        s->state = ANSWER_FAILED;
        s->failure.kind = MODEL_ERR_FAILED;
        failure_text(&s->failure, "the model provider broke its answer off with an error");
        return;
    }
    s->stop_known = true;
    s->stop = MODEL_STOP_END; /* eos, end_turn, ...: whatever else a server calls its end */
    for (size_t i = 0; i < COUNT_OF(stops); i++) {
        if (str_eqz(reason, stops[i].reason))
            s->stop = stops[i].stop;
    }
    if (s->stop == MODEL_STOP_REFUSAL && !s->has_explanation)
        answer_explain(s, STR_NONE, STR("The provider's content filter stopped the answer."));
}

/* The text of a refusal takes the place of an answer. */
static void refusal_read(struct answer *s, struct str text)
{
    if (text.len == 0)
        return;
    buf_str(&s->explanation, str_utf8_take(text, s->explanation.max - s->explanation.len));
    s->has_explanation = true;
}

static void finish(struct answer *s)
{
    if (s->has_explanation && (!s->stop_known || s->stop == MODEL_STOP_END)) {
        s->stop_known = true;
        s->stop = MODEL_STOP_REFUSAL;
    }
    answer_finish(s);
}

/* ---- chunks ---- */

static bool is_error(const struct json *doc)
{
    const struct json *error = json_get(doc, "error");
    return (error && error->type != JSON_NULL) || str_eqz(json_get_str(doc, "object"), "error");
}

/* A delta and a message have the same members. */
static void message_read(struct answer *s, const struct json *message)
{
    /* One of two names; a gateway may give both, with the same text. */
    const struct json *thought = json_get(message, "reasoning_content");
    if (!json_is(thought, JSON_STRING) || thought->str.len == 0)
        thought = json_get(message, "reasoning");
    thought_piece(s, thought);
    if (s->state == ANSWER_OPEN)
        content_read(s, json_get(message, "content"));
    refusal_read(s, json_get_str(message, "refusal"));
    calls_read(s, message);
}

static const struct json *first_choice(const struct json *doc)
{
    json_for_each (choice, json_get(doc, "choices")) {
        int64_t index;
        if (!json_i64(json_get(choice, "index"), &index) || index == 0)
            return choice;
    }
    return NULL;
}

/* False when it is over with this. */
static bool document_read(struct answer *s, const struct json *doc)
{
    if (is_error(doc)) {
        s->state = ANSWER_FAILED;
        failure_json(&s->failure, s->names, 0, doc);
        return false;
    }
    const struct json *choice = first_choice(doc);
    usage_read(s, json_get(doc, "usage"));
    usage_read(s, json_get(choice, "usage"));
    timings_read(s, json_get(doc, "timings"));
    if (!json_is(json_get(doc, "choices"), JSON_ARRAY))
        return true; /* usage alone, or a sign of life */
    if (s->state == ANSWER_WAITING)
        s->state = ANSWER_OPEN;
    const struct json *delta = json_get(choice, "delta");
    message_read(s, json_is(delta, JSON_OBJECT) ? delta : json_get(choice, "message"));
    if (s->state == ANSWER_OPEN)
        stop_read(s, json_get_str(choice, "finish_reason"));
    return s->state == ANSWER_OPEN;
}

static void on_event(struct answer *s, struct str type, struct str data)
{
    if (str_eqz(str_trim(data), "[DONE]")) {
        if (s->state == ANSWER_OPEN)
            finish(s);
        else
            answer_garbled(s, "it ends before it began");
        return;
    }
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc = answer_json(s, &a, data);
    if (!doc)
        return;
    if (str_eqz(type, "error") && !is_error(doc)) {
        s->state = ANSWER_FAILED;
        failure_json(&s->failure, s->names, 0, doc);
        return;
    }
    (void)document_read(s, doc);
}

/* Some servers ignore that a stream was asked for. */
static void on_message(struct answer *s, const struct json *doc)
{
    if (!is_error(doc) && !first_choice(doc))
        answer_garbled(s, "a message without choices");
    else if (document_read(s, doc))
        finish(s);
}

const struct answer_decoder openai_decoder = {
    .event = on_event, .message = on_message, .finish = finish};
