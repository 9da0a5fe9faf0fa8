/* The text of the conversation and the table of its blocks. */
#include "core/prompt.h"

#include "base/limits.h"
#include "core/compact.h"
#include "core/outcome.h"
#include "json/writer.h"

enum {
    CONTEXT_TOKENS = 200000, /* of a model that nothing is known of */
    IMAGE_TOKENS = 1600,
    DOCUMENT_TOKENS = 3000, /* and one for each DOCUMENT_BYTES */
    DOCUMENT_BYTES = 20,
    CLEAR_MIN_BYTES = 300, /* shorter results stay */
    CLEAR_KEEP = 6,        /* so many of the newest results stay */
};

void prompt_init(struct prompt *p, size_t max_bytes)
{
    /* Twice the bound: what makes a conversation too long is still there to be compacted. */
    size_t room = max_bytes > SIZE_MAX / 2 ? max_bytes : max_bytes * 2;
    *p = (struct prompt){
        .messages = BUF_INIT(room), .early = BUF_INIT(room), .max_bytes = max_bytes};
}

void prompt_fini(struct prompt *p)
{
    buf_fini(&p->messages);
    buf_fini(&p->early);
    mem_free(TAKE_PTR(p->blocks));
    p->nblocks = p->blocks_cap = 0;
}

void prompt_reset(struct prompt *p)
{
    size_t max_bytes = p->max_bytes;
    prompt_fini(p);
    prompt_init(p, max_bytes);
}

const char *prompt_role_name(enum prompt_role role)
{
    switch (role) {
    case PROMPT_ASSISTANT: return "assistant";
    case PROMPT_SYSTEM: return "system";
    case PROMPT_USER:
    case PROMPT_NONE: break;
    }
    return "user";
}

/* ---- one block ---- */

/* A block that is being written, and how the text was before it. */
struct entry {
    struct prompt_block b;
    size_t len;
    enum prompt_role open;
    bool comma;
};

/* Makes sure that a message of the role is open and ready for one more content block. */
static struct entry begin_block(struct prompt *p, enum prompt_role role, enum prompt_kind kind,
                                int64_t seq)
{
    struct buf *b = &p->messages;
    struct entry e = {.len = b->len, .open = p->open, .comma = p->comma};
    if (p->open != role) {
        buf_z(b, p->open == PROMPT_NONE ? "[" : "]},");
        buf_z(b, "{\"role\":\"");
        buf_z(b, prompt_role_name(role));
        buf_z(b, "\",\"content\":[");
        p->open = role;
        p->comma = false;
    }
    if (p->comma)
        buf_ch(b, ',');
    p->comma = true;
    e.b = (struct prompt_block){.at = b->len, .seq = seq, .role = role, .kind = kind};
    return e;
}

static void count(struct prompt *p, const struct prompt_block *b, int64_t sign)
{
    p->text_bytes += sign * (int64_t)(b->len - b->media_bytes);
    p->media += sign * b->media;
    p->media_tokens += sign * b->media_tokens;
}

/* Enters the block in the table, or takes it back when there was no room for all of it. */
static void end_block(struct prompt *p, struct entry *e)
{
    if (!buf_ok(&p->messages)) {
        p->messages.failed = false;
        p->messages.len = e->len;
        p->open = e->open;
        p->comma = e->comma;
        p->lost = true;
        return;
    }
    if (p->nblocks == p->blocks_cap) {
        p->blocks_cap = p->blocks_cap ? p->blocks_cap * 2 : 32;
        p->blocks = mem_realloc(p->blocks, p->blocks_cap * sizeof *p->blocks);
    }
    e->b.len = p->messages.len - e->b.at;
    p->blocks[p->nblocks++] = e->b;
    count(p, &e->b, 1);
}

static bool is(const struct json *block, const char *type)
{
    return str_eqz(json_get_str(block, "type"), type);
}

static bool is_empty_text(const struct json *block)
{
    return is(block, "text") && json_get_str(block, "text").len == 0;
}

/* What an image or a document costs is not told by its bytes. */
static void weigh(struct prompt_block *b, const struct json *block)
{
    bool image = is(block, "image");
    if (!image && !is(block, "document"))
        return;
    const struct json *source = json_get(block, "source");
    b->media++;
    if (!image && (is(source, "text") || is(source, "content"))) {
        json_for_each (inner, json_get(source, "content"))
            weigh(b, inner);
        return;
    }
    b->media_bytes += block->raw.len;
    b->media_tokens +=
        image ? IMAGE_TOKENS : DOCUMENT_TOKENS + (int64_t)(block->raw.len / DOCUMENT_BYTES);
}

static void put_plain(struct prompt *p, enum prompt_role role, enum prompt_kind kind, int64_t seq,
                      const struct json *block)
{
    struct entry e = begin_block(p, role, kind, seq);
    e.b.own = role == PROMPT_USER && kind == PROMPT_TEXT;
    weigh(&e.b, block);
    buf_str(&p->messages, block->raw);
    end_block(p, &e);
}

static void put_content(struct prompt *p, enum prompt_role role, int64_t seq,
                        const struct json *content)
{
    json_for_each (block, content)
        if (!is_empty_text(block)) /* providers refuse empty text blocks */
            put_plain(p, role, is(block, "text") ? PROMPT_TEXT : PROMPT_MEDIA, seq, block);
}

static void put_tool_use(struct prompt *p, int64_t seq, struct str id, const struct json *call)
{
    struct entry e = begin_block(p, PROMPT_ASSISTANT, PROMPT_TOOL_USE, seq);
    struct jw w = jw_to(&p->messages);
    jw_obj(&w);
    jw_kz(&w, "type", "tool_use");
    jw_kstr(&w, "id", str_some(id) ? id : STR(""));
    e.b.id_end = p->messages.len - e.b.at;
    struct str name = json_get_str(call, "name");
    jw_kstr(&w, "name", str_some(name) ? name : STR(""));
    const struct json *input = json_get(call, "input");
    jw_kraw(&w, "input", input ? input->raw : STR("{}"));
    jw_obj_end(&w);
    end_block(p, &e);
}

static void put_tool_result(struct prompt *p, int64_t seq, struct str tool_use_id,
                            const struct json *content, bool is_error)
{
    struct entry e = begin_block(p, PROMPT_USER, PROMPT_TOOL_RESULT, seq);
    struct jw w = jw_to(&p->messages);
    jw_obj(&w);
    jw_kz(&w, "type", "tool_result");
    jw_kstr(&w, "tool_use_id", str_some(tool_use_id) ? tool_use_id : STR(""));
    e.b.id_end = p->messages.len - e.b.at;
    e.b.is_error = is_error;
    bool some = false;
    json_for_each (block, content) {
        if (is_empty_text(block))
            continue;
        if (!some) {
            jw_key(&w, "content");
            jw_arr(&w);
        }
        some = true;
        weigh(&e.b, block);
        jw_raw(&w, block->raw);
    }
    if (some)
        jw_arr_end(&w);
    if (is_error)
        jw_kbool(&w, "is_error", true);
    jw_obj_end(&w);
    end_block(p, &e);
}

static bool is_thinking(const struct json *block)
{
    return is(block, "thinking") || is(block, "redacted_thinking");
}

void prompt_put_kept(struct prompt *p, enum prompt_role role, int64_t seq, const struct json *block)
{
    if (is_empty_text(block))
        return;
    if (role == PROMPT_ASSISTANT && is(block, "tool_use"))
        put_tool_use(p, seq, json_get_str(block, "id"), block);
    else if (role == PROMPT_USER && is(block, "tool_result"))
        put_tool_result(p, seq, json_get_str(block, "tool_use_id"), json_get(block, "content"),
                        json_is_true(json_get(block, "is_error")));
    else if (is_thinking(block))
        put_plain(p, role, PROMPT_THINKING, seq, block);
    else
        put_plain(p, role, is(block, "text") ? PROMPT_TEXT : PROMPT_MEDIA, seq, block);
}

void prompt_put_words(struct prompt *p, enum prompt_kind kind, int64_t seq, struct str text)
{
    if (text.len == 0)
        return;
    struct entry e = begin_block(p, PROMPT_USER, kind, seq);
    struct jw w = jw_to(&p->messages);
    e.b.own = kind == PROMPT_TEXT;
    jw_obj(&w);
    jw_kz(&w, "type", "text");
    jw_kstr(&w, "text", text);
    jw_obj_end(&w);
    end_block(p, &e);
}

/* ---- the fold ---- */

bool prompt_is_content(const struct json *v)
{
    if (!json_is(v, JSON_ARRAY))
        return false;
    json_for_each (block, v)
        if (!json_is(block, JSON_OBJECT))
            return false;
    return true;
}

static bool speaks_to_model(enum event_type t)
{
    return t == EVENT_USER_MESSAGE || t == EVENT_SYSTEM_MESSAGE || t == EVENT_AGENT_MESSAGE ||
           t == EVENT_AGENT_TOOL_USE || t == EVENT_AGENT_CUSTOM_TOOL_USE ||
           t == EVENT_AGENT_TOOL_RESULT || t == EVENT_USER_CUSTOM_TOOL_RESULT ||
           t == EVENT_USER_TOOL_RESULT || t == EVENT_USER_DEFINE_OUTCOME ||
           t == EVENT_SPAN_OUTCOME_EVALUATION_END;
}

static int fold_thinking(struct prompt *p, const struct event *e, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *block;
    int rc = json_parse(&a, e->transcript, JSON_ALLOW_DUPLICATES, &block, err);
    if (rc)
        return err_wrap(err, "transcript of event %s", e->id.z);
    if (block->type != JSON_OBJECT)
        return err_set(err, ERR_PARSE, "transcript of event %s: not a content block", e->id.z);
    put_plain(p, PROMPT_ASSISTANT, PROMPT_THINKING, e->seq, block);
    return 0;
}

/* The content of an event: of its transcript, where files have become what is in them, or else of
 * its body. */
static int find_content(const struct event *e, const struct json *body, struct arena *a,
                        const struct json **out, struct err *err)
{
    const struct json *content = json_get(body, "content");
    bool resolved = e->transcript.len &&
                    (e->type == EVENT_USER_MESSAGE || e->type == EVENT_USER_CUSTOM_TOOL_RESULT ||
                     e->type == EVENT_USER_TOOL_RESULT);
    if (resolved) {
        int rc = json_parse(a, e->transcript, JSON_ALLOW_DUPLICATES, &content, err);
        if (rc)
            return err_wrap(err, "transcript of event %s", e->id.z);
    } else if (json_is(content, JSON_NULL)) {
        content = NULL;
    }
    if (content && !prompt_is_content(content))
        return err_set(err, ERR_PARSE, "%s of event %s: not an array of content blocks",
                       resolved ? "transcript" : "content", e->id.z);
    *out = content;
    return 0;
}

/* The operator spoke before the user did: a conversation must begin with the user, so the words
 * wait for the first message and stand behind it. */
static void keep_early(struct prompt *p, const struct json *content)
{
    json_for_each (block, content) {
        buf_ch(&p->early, p->early.len ? ',' : '[');
        buf_str(&p->early, block->raw);
    }
}

/* What came early stands behind the first message of the user. */
static int put_early(struct prompt *p, int64_t seq, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    if (p->early.len == 0 || p->open == PROMPT_NONE)
        return 0;
    const struct json *early;
    buf_ch(&p->early, ']');
    int rc = json_parse(&a, buf_view(&p->early), JSON_ALLOW_DUPLICATES, &early, err);
    if (rc == 0)
        put_content(p, PROMPT_SYSTEM, seq, early);
    buf_clear(&p->early);
    return rc;
}

static int put_user(struct prompt *p, int64_t seq, const struct json *content, struct err *err)
{
    put_content(p, PROMPT_USER, seq, content);
    return put_early(p, seq, err);
}

static int put_outcome(struct prompt *p, int64_t seq, const struct json *body, struct err *err)
{
    AUTO_BUF struct buf rubric = BUF_INIT(p->max_bytes);
    outcome_rubric_words(body, &rubric);
    prompt_put_words(p, PROMPT_TEXT, seq, outcome_task(body));
    prompt_put_words(p, PROMPT_LABEL, seq, buf_view(&rubric));
    return put_early(p, seq, err);
}

/* Where the work goes on after it. */
static void put_verdict(struct prompt *p, int64_t seq, const struct json *body)
{
    struct str result = json_get_str(body, "result");
    if (str_eqz(result, outcome_results[OUTCOME_NEEDS_REVISION]) ||
        str_eqz(result, outcome_results[OUTCOME_MAX_ITERATIONS]))
        prompt_put_words(p, PROMPT_LABEL, seq, json_get_str(body, "explanation"));
}

int prompt_fold(struct prompt *p, const struct event *e, struct err *err)
{
    if (e->type == EVENT_AGENT_THREAD_CONTEXT_COMPACTED)
        return context_fold(p, e, err);
    if (e->type == EVENT_AGENT_THINKING)
        return e->transcript.len ? fold_thinking(p, e, err) : 0;
    if (!speaks_to_model(e->type))
        return 0;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body, *content = NULL;
    int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    if (rc)
        return err_wrap(err, "event %s", e->id.z);
    rc = find_content(e, body, &a, &content, err);
    if (rc)
        return rc;
    bool is_error = json_is_true(json_get(body, "is_error"));
    if (e->type == EVENT_USER_MESSAGE)
        rc = put_user(p, e->seq, content, err);
    else if (e->type == EVENT_USER_DEFINE_OUTCOME)
        rc = put_outcome(p, e->seq, body, err);
    else if (e->type == EVENT_SPAN_OUTCOME_EVALUATION_END)
        put_verdict(p, e->seq, body);
    else if (e->type == EVENT_SYSTEM_MESSAGE && p->open == PROMPT_NONE)
        keep_early(p, content);
    else if (e->type == EVENT_SYSTEM_MESSAGE)
        put_content(p, PROMPT_SYSTEM, e->seq, content);
    else if (e->type == EVENT_AGENT_MESSAGE)
        put_content(p, PROMPT_ASSISTANT, e->seq, content);
    else if (e->type == EVENT_AGENT_TOOL_RESULT || e->type == EVENT_USER_TOOL_RESULT)
        put_tool_result(p, e->seq, json_get_str(body, "tool_use_id"), content, is_error);
    else if (e->type == EVENT_USER_CUSTOM_TOOL_RESULT)
        put_tool_result(p, e->seq, json_get_str(body, "custom_tool_use_id"), content, is_error);
    else
        put_tool_use(p, e->seq, id_str(&e->id), body);
    return rc;
}

int prompt_messages(struct prompt *p, struct str *out, struct err *err)
{
    if (p->open == PROMPT_NONE && !p->lost) {
        *out = STR("[]");
        return 0;
    }
    /* The closing brackets stand behind the content only as long as this view is used. */
    size_t len = p->messages.len;
    buf_z(&p->messages, "]}]");
    bool fits = buf_ok(&p->messages) && p->messages.len <= p->max_bytes && !p->lost;
    *out = buf_view(&p->messages);
    p->messages.len = len;
    p->messages.failed = false;
    if (!fits)
        return err_set(err, ERR_TOO_LARGE,
                       "The conversation is longer than this server sends to a model.");
    return 0;
}

/* ---- size ---- */

void prompt_size(const struct prompt *p, int64_t *bytes, int64_t *media)
{
    *bytes = (int64_t)p->messages.len;
    *media = p->media;
}

void prompt_measured(struct prompt *p, int64_t tokens)
{
    p->measured_tokens = tokens;
    p->measured_text = p->text_bytes;
    p->measured_media = p->media_tokens;
}

/* Rounded up; fewer bytes than were measured make fewer tokens. */
static int64_t text_tokens(int64_t bytes)
{
    return bytes < 0 ? -(-bytes / 3) : (bytes + 2) / 3;
}

int64_t prompt_tokens(const struct prompt *p)
{
    int64_t n = p->measured_tokens + text_tokens(p->text_bytes - p->measured_text) +
                p->media_tokens - p->measured_media;
    return n > 0 ? n : 0;
}

static int64_t context_of(const struct model_facts *f)
{
    return f && f->context_tokens > 0 ? f->context_tokens : CONTEXT_TOKENS;
}

bool prompt_should_compact(const struct prompt *p, const struct model_facts *f)
{
    return prompt_tokens(p) >= context_of(f) / 5 * 4;
}

/* ---- clearing old tool results ---- */

static const char cleared_content[] =
    ",\"content\":[{\"type\":\"text\",\"text\":\"[Old tool result cleared to save context. Call "
    "the tool again if you need it.]\"}]";
static const char cleared_error[] = ",\"is_error\":true";

static size_t cleared_len(const struct prompt_block *b)
{
    return b->id_end + sizeof cleared_content - 1 + (b->is_error ? sizeof cleared_error - 1 : 0) +
           1;
}

static bool clears(const struct prompt_block *b, int64_t below_seq)
{
    return b->kind == PROMPT_TOOL_RESULT && b->seq < below_seq &&
           b->len - b->id_end >= CLEAR_MIN_BYTES && b->len > cleared_len(b);
}

int64_t prompt_clearable(const struct prompt *p, const struct model_facts *f)
{
    int64_t context = context_of(f);
    if (prompt_tokens(p) <= context / 5 * 3)
        return 0;
    size_t results = 0, first = p->nblocks;
    while (first > 0 && results < CLEAR_KEEP) {
        first--;
        results += p->blocks[first].kind == PROMPT_TOOL_RESULT;
    }
    if (results < CLEAR_KEEP)
        return 0;
    /* The whole round: the results that stand with it under one answer. */
    int64_t below = p->blocks[first].seq, freed = 0;
    for (size_t i = first; i > 0 && p->blocks[i - 1].role == PROMPT_USER; i--)
        if (p->blocks[i - 1].kind == PROMPT_TOOL_RESULT)
            below = p->blocks[i - 1].seq;
    for (size_t i = 0; i < first; i++) {
        const struct prompt_block *b = &p->blocks[i];
        if (!clears(b, below))
            continue;
        freed += b->media_tokens;
        freed += text_tokens((int64_t)(b->len - b->media_bytes) - (int64_t)cleared_len(b));
    }
    return freed >= context / 10 ? below : 0;
}

/* Puts the short form where the block stood; it is never longer. */
static void shorten(struct prompt *p, struct prompt_block *b, size_t to)
{
    char *text = p->messages.data;
    memmove(text + to, text + b->at, b->id_end);
    size_t at = to + b->id_end;
    memcpy(text + at, cleared_content, sizeof cleared_content - 1);
    at += sizeof cleared_content - 1;
    if (b->is_error) {
        memcpy(text + at, cleared_error, sizeof cleared_error - 1);
        at += sizeof cleared_error - 1;
    }
    text[at++] = '}';
    count(p, b, -1);
    b->len = at - to;
    b->media = b->media_tokens = 0;
    b->media_bytes = 0;
    count(p, b, 1);
}

void prompt_clear(struct prompt *p, int64_t below_seq)
{
    size_t from = 0, to = 0; /* what stands at `from` moves to `to` */
    char *text = p->messages.data;
    for (size_t i = 0; i < p->nblocks; i++) {
        struct prompt_block *b = &p->blocks[i];
        size_t end = b->at + b->len;
        bool clear = clears(b, below_seq);
        size_t keep = (clear ? b->at : end) - from;
        if (to != from)
            memmove(text + to, text + from, keep);
        size_t moved = b->at - from + to;
        to += keep;
        if (clear) {
            shorten(p, b, to);
            to += b->len;
        }
        b->at = moved;
        from = end;
    }
    if (p->nblocks) {
        p->messages.len = to;
        text[to] = '\0';
    }
}
