/* Requests to the model: what one looks like, what it may cost, when the context is made smaller
 * first. */
#include "core/turn_request.h"

#include <assert.h>
#include <stdio.h>

enum {
    CONTEXT_DEFAULT = 200000, /* tokens, of a model that no table names */
    SUMMARY_TOKENS = 8192,    /* of the answer to a compaction */
    SUMMARY_FIT_MIN = 4096,   /* bytes: a summary of less is none */
};

/* ---- the request ---- */

static int messages_of(struct turn *t, const struct request_record *r, struct str *out,
                       struct err *err)
{
    if (r->purpose != MODEL_FOR_COMPACTION)
        return prompt_messages(&t->prompt, out, err);
    if (t->summary.len == 0) {
        int rc = prompt_summary_request(&t->prompt, (size_t)r->fit, &t->summary, err);
        if (rc)
            return rc;
    }
    if (!buf_ok(&t->summary))
        return err_set(err, ERR_TOO_LARGE, "the request for a summary is too large");
    *out = buf_view(&t->summary);
    return 0;
}

static struct str or_none(const struct buf *b)
{
    return b->len ? buf_view(b) : STR_NONE;
}

static int build(struct turn *t, const struct request_record *r, struct model_request *out,
                 struct err *err)
{
    struct str messages;
    int rc = messages_of(t, r, &messages, err);
    if (rc)
        return rc;
    *out = (struct model_request){
        .model = t->agent->model,
        .effort = t->agent->effort,
        .speed = t->agent->speed,
        .system = or_none(&t->system),
        .tools = or_none(&t->tools),
        .messages = messages,
        .max_tokens = r->max_tokens,
        .session_id = id_str(&t->session_id),
        .request_number = (uint64_t)t->requests + 1,
        .purpose = r->purpose,
    };
    return 0;
}

int turn_request(struct turn *t, struct model_request *out, struct err *err)
{
    assert(turn_phase(t) == TURN_MODEL || t->counting);
    return build(t, &t->request, out, err);
}

static void digest_one(struct str s, char out[DIGEST_HEX_LEN + 1])
{
    struct digest d;
    digest_init(&d);
    digest_field(&d, s);
    digest_hex(&d, out);
}

/* The conversation only grows until it is compacted or cleared: what was hashed is not hashed
 * again. */
static void digest_messages(struct turn *t, struct str messages, char out[DIGEST_HEX_LEN + 1])
{
    size_t grown = t->prompt.messages.len;
    if (messages.ptr != t->prompt.messages.data || grown > messages.len || t->digested > grown) {
        digest_one(messages, out);
        return;
    }
    digest_update(&t->messages_digest, messages.ptr + t->digested, grown - t->digested);
    t->digested = grown;
    struct digest d = t->messages_digest;
    digest_field(&d, str_skip(messages, grown));
    digest_hex(&d, out);
}

void turn_request_digest(struct turn *t, const struct model_request *r, char out[RECORD_DIGEST_MAX])
{
    enum { PART = 16 }; /* half of each digest is enough to tell two requests apart */
    char part[4][DIGEST_HEX_LEN + 1], max_tokens[24];
    struct digest head;
    digest_init(&head);
    digest_field(&head, r->model);
    digest_field(&head, r->effort);
    digest_field(&head, r->speed);
    snprintf(max_tokens, sizeof max_tokens, "%lld", (long long)r->max_tokens);
    digest_field(&head, str_z(max_tokens));
    digest_hex(&head, part[0]);
    digest_one(r->system, part[1]);
    digest_one(r->tools, part[2]);
    digest_messages(t, r->messages, part[3]);
    snprintf(out, RECORD_DIGEST_MAX, "%.*s-%.*s-%.*s-%.*s", PART, part[0], PART, part[1], PART,
             part[2], PART, part[3]);
}

/* ---- what it may cost ---- */

static struct request_size size_of(struct turn *t, const struct request_record *r, int64_t counted)
{
    struct request_size size = {.counted = counted};
    prompt_size(&t->prompt, &size.bytes, &size.media);
    if (r->purpose == MODEL_FOR_COMPACTION)
        size.bytes = (int64_t)t->summary.len; /* its media are a part of the prompt's */
    size.bytes += (int64_t)(t->system.len + t->tools.len);
    return size;
}

void request_stop_at_cap(struct turn *t, struct turn_step *s, const char *cap)
{
    emit_idle(t, s, emit_cap_reason(s, cap), STR_NONE);
}

static void start(struct turn *t, struct turn_step *s, struct request_record *r)
{
    struct model_request request;
    struct err err;
    if (r->clear_below)
        prompt_clear(&t->prompt, r->clear_below);
    if (r->clear_below || r->purpose == MODEL_FOR_COMPACTION)
        turn_forget_digest(t);
    /* What cannot be built fails when it is sent; there is nothing to recognise. */
    if (build(t, r, &request, &err) == 0)
        turn_request_digest(t, &request, r->digest);
    t->counting = false;
    emit_span_start(t, s, r);
    s->start_model = true;
}

/* The judge of an answer's calls is paid out of the answer's reservation: that is what is held if
 * the process dies between the two. Where little is left it gets what there is. */
static int64_t judge_share(const struct turn *t, const struct request_record *r, int64_t reserved)
{
    int64_t left = caps_money_left(&t->caps, &t->usage) - reserved;
    if (r->purpose != MODEL_FOR_TURN || left <= 0)
        return 0;
    return left < t->judge_microusd ? left : t->judge_microusd;
}

/* Sends the request if its worst case fits into what is left. */
static void reserve(struct turn *t, struct turn_step *s, struct request_record *r, int64_t counted)
{
    struct request_size size = size_of(t, r, counted);
    struct reservation got;
    switch (budget_reserve(&t->caps, &t->usage, &t->facts, &size, &got)) {
    case RESERVE_OK:
        r->reserved_microusd = got.microusd + judge_share(t, r, got.microusd);
        if (r->max_tokens == 0 || (got.max_tokens && got.max_tokens < r->max_tokens))
            r->max_tokens = got.max_tokens;
        start(t, s, r);
        break;
    case RESERVE_COUNT:
        t->request = *r;
        t->counting = true;
        s->count_tokens = true;
        break;
    case RESERVE_STOP:
        t->counting = false;
        request_stop_at_cap(t, s, got.limit);
        break;
    }
}

/* ---- compaction ---- */

static int64_t context_of(const struct turn *t)
{
    return t->facts.context_tokens ? t->facts.context_tokens : CONTEXT_DEFAULT;
}

bool request_may_compact(const struct turn *t)
{
    return t->compactions < LIMIT_COMPACTIONS && prompt_can_compact(&t->prompt);
}

/* The messages may have so many bytes that they and the summary fit into the context, at three
 * bytes a token; where that guess is wrong, the next attempt has half as many. */
static int64_t first_fit(const struct turn *t)
{
    int64_t tokens = context_of(t) * 9 / 10 - SUMMARY_TOKENS;
    if (tokens < context_of(t) / 2)
        tokens = context_of(t) / 2;
    tokens -= (int64_t)(t->system.len + t->tools.len) / 3;
    int64_t bytes = tokens * 3;
    if (bytes > LIMIT_PROMPT / 4)
        bytes = LIMIT_PROMPT / 4;
    return bytes > SUMMARY_FIT_MIN ? bytes : SUMMARY_FIT_MIN;
}

/* Asks for a summary in at most `fit` bytes. */
static void ask_for_summary(struct turn *t, struct turn_step *s, int64_t fit)
{
    struct request_record r = {.purpose = MODEL_FOR_COMPACTION, .fit = fit};
    int64_t most = t->facts.max_output_tokens;
    int64_t share = context_of(t) / 8; /* of a small context a small part */
    r.max_tokens = most > 0 && most < SUMMARY_TOKENS ? most : SUMMARY_TOKENS;
    if (share < r.max_tokens && share >= BUDGET_MIN_ANSWER_TOKENS)
        r.max_tokens = share;
    struct str messages;
    struct err err;
    buf_clear(&t->summary);
    if (messages_of(t, &r, &messages, &err)) {
        request_compacted(t, s, STR_NONE);
        return;
    }
    reserve(t, s, &r, 0);
}

void request_compact(struct turn *t, struct turn_step *s)
{
    ask_for_summary(t, s, first_fit(t));
}

/* So that the log can be read from here on (turn_resume). */
static struct str with_turn(const struct turn *t, struct arena *a, struct str transcript)
{
    AUTO_BUF struct buf outcome = BUF_INIT(LIMIT_PROMPT);
    if (t->outcome.state != OUTCOME_NONE) {
        struct jw w = jw_to(&outcome);
        buf_z(&outcome, ",\"outcome\":");
        outcome_write(&w, &t->outcome);
    }
    return arena_printf(a,
                        "%.*s,\"turn\":{\"requests\":%lld,\"rounds\":%u,\"compactions\":%u%.*s}}",
                        (int)transcript.len - 1, transcript.ptr, (long long)t->requests, t->rounds,
                        t->compactions, (int)outcome.len, outcome.len ? outcome.data : "");
}

void request_compacted(struct turn *t, struct turn_step *s, struct str summary)
{
    struct str transcript;
    struct err err;
    buf_clear(&t->summary);
    if (s->err_code)
        return;
    int rc = prompt_compacted(&t->prompt, s->arena, summary, &transcript, &err);
    if (rc) {
        s->err_code = rc;
        s->err = err;
        return;
    }
    emit_compacted(t, s, with_turn(t, s->arena, transcript));
    if (s->err_code == 0)
        request_start(t, s);
}

void request_compaction_overflowed(struct turn *t, struct turn_step *s)
{
    int64_t fit = t->request.fit / 2;
    if (fit < SUMMARY_FIT_MIN)
        request_compacted(t, s, STR_NONE);
    else
        ask_for_summary(t, s, fit);
}

/* ---- the next request ---- */

static void go(struct turn *t, struct turn_step *s, int64_t counted)
{
    const char *cap = caps_reached(&t->caps, &t->usage, false, s->now_us);
    struct request_record r = {.purpose = MODEL_FOR_TURN};
    if (cap) {
        request_stop_at_cap(t, s, cap);
        return;
    }
    r.clear_below = prompt_clearable(&t->prompt, &t->facts);
    if (r.clear_below == 0 && prompt_should_compact(&t->prompt, &t->facts) &&
        prompt_can_compact(&t->prompt)) {
        if (t->compactions < LIMIT_COMPACTIONS)
            request_compact(t, s);
        else
            request_compaction_limit(t, s);
        return;
    }
    reserve(t, s, &r, counted);
}

void request_compaction_limit(struct turn *t, struct turn_step *s)
{
    emit_error(t, s, "compaction_limit_reached_error",
               "The context was compacted several times in a row and is still too large. Send a "
               "message to start a new turn, with less material at once.",
               "exhausted");
    request_exhausted(t, s);
}

void request_exhausted(struct turn *t, struct turn_step *s)
{
    turn_take_messages(t, s);
    if (s->err_code == 0)
        emit_idle(t, s, REASON_RETRIES_EXHAUSTED, STR_NONE);
}

void request_start(struct turn *t, struct turn_step *s)
{
    turn_take_messages(t, s);
    if (s->err_code == 0)
        go(t, s, 0);
}

void turn_counted(struct turn *t, struct turn_step *s, int64_t tokens)
{
    if (!t->counting || turn_phase(t) != TURN_TOOLS)
        return;
    struct request_record r = t->request;
    t->counting = false;
    if (r.purpose == MODEL_FOR_COMPACTION) {
        reserve(t, s, &r, tokens > 0 ? tokens : -1);
        return;
    }
    /* Messages that came meanwhile wait for the request after this one: the count does not know
     * them. */
    go(t, s, tokens > 0 ? tokens : -1);
}
