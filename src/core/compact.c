/* What stands for a conversation after it was compacted: how it is chosen, written and folded.
 *
 *     {"v":1,
 *      "user":["words of the user", null, ...],    oldest first; null: some were left out here
 *      "system":[{"type":"text",...}, ...],        the operator's messages, all of them, verbatim
 *      "summary":"..." or null,
 *      "tail":[{"role":...,"content":[...]}, ...]} the newest messages, verbatim
 *
 * The user's and the operator's words are taken over from one compaction to the next as they are;
 * only the summary is written anew.
 */
#include "core/compact.h"

#include "base/limits.h"
#include "json/writer.h"

enum {
    USER_HEAD_BYTES = 8 * 1024,
    USER_TAIL_BYTES = 48 * 1024,
    SUMMARY_BYTES = 64 * 1024,
    EXCHANGE_BYTES = 24 * 1024, /* a larger newest exchange is not kept */
    GAIN_BYTES = 2000,          /* what a compaction must be able to leave out */
    WORDS_MIN_BYTES = 4096,     /* below this the user's words are not halved */
    TRANSCRIPT_BYTES = LIMIT_PROMPT,
    SEPARATOR_BYTES = 8, /* what stands between two texts, at most */
};

static const char label_user[] =
    "[The earlier part of this conversation was compacted to make room. What the user said in it "
    "follows word for word, oldest first; images and documents are no longer here.]";
static const char label_plain[] =
    "[The earlier part of this conversation was compacted to make room.]";
static const char label_gap[] =
    "[Here words of the user were left out, because there are too many.]";
static const char label_summary[] =
    "[A summary of the earlier part follows. The assistant wrote it, not the user.]";
static const char label_resume[] =
    "[End of the summary. Go on where the work stopped; what it says is done need not be done "
    "again.]";
static const char label_no_summary[] =
    "[There is no summary: what the assistant said, did and found in the earlier part was left "
    "out. Look at the state of the work before you go on.]";

/* ---- which blocks make a conversation ---- */

static size_t run_end(const struct prompt *p, size_t from)
{
    size_t i = from;
    while (i < p->nblocks && p->blocks[i].role == p->blocks[from].role)
        i++;
    return i;
}

static struct str call_id(const struct prompt *p, const struct prompt_block *b)
{
    struct str head = str_take(prompt_raw(p, b), b->id_end);
    size_t prefix = b->kind == PROMPT_TOOL_USE
                        ? sizeof "{\"type\":\"tool_use\",\"id\":" - 1
                        : sizeof "{\"type\":\"tool_result\",\"tool_use_id\":" - 1;
    return str_skip(head, prefix);
}

/* The first use of an id in [from, mid) and its first result in [mid, end) belong together. */
static void keep_pairs(const struct prompt *p, bool *keep, size_t from, size_t mid, size_t end)
{
    for (size_t r = mid; r < end; r++) {
        if (p->blocks[r].kind != PROMPT_TOOL_RESULT)
            continue;
        struct str id = call_id(p, &p->blocks[r]);
        for (size_t u = from; u < mid; u++) {
            if (p->blocks[u].kind != PROMPT_TOOL_USE || !str_eq(call_id(p, &p->blocks[u]), id))
                continue;
            if (!keep[u])
                keep[u] = keep[r] = true;
            break;
        }
    }
}

bool *context_keep(const struct prompt *p, size_t from, struct arena *a)
{
    bool *keep = ARENA_ARRAY(a, bool, p->nblocks + 1);
    if (!keep)
        return NULL;
    for (size_t i = from; i < p->nblocks;) {
        size_t mid = run_end(p, i);
        if (p->blocks[i].role == PROMPT_ASSISTANT && mid < p->nblocks &&
            p->blocks[mid].role == PROMPT_USER)
            keep_pairs(p, keep, i, mid, run_end(p, mid));
        bool says = p->blocks[i].role != PROMPT_ASSISTANT;
        for (size_t k = i; k < mid; k++) {
            enum prompt_kind kind = p->blocks[k].kind;
            if (kind != PROMPT_TOOL_USE && kind != PROMPT_TOOL_RESULT)
                keep[k] = kind != PROMPT_THINKING;
            says = says || keep[k];
        }
        for (size_t k = i; k < mid; k++)
            if (says && p->blocks[k].kind == PROMPT_THINKING)
                keep[k] = p->blocks[k].role == PROMPT_ASSISTANT;
        i = mid;
    }
    return keep;
}

/* Where the part that is kept verbatim begins: the newest exchange with what the user said since,
 * or only the latter, or (nblocks) nothing. */
static size_t tail_start(const struct prompt *p, struct arena *a)
{
    size_t pre = 0, last = p->nblocks;
    while (pre < p->nblocks && p->blocks[pre].pre)
        pre++;
    while (last > pre && p->blocks[last - 1].role != PROMPT_ASSISTANT)
        last--;
    if (last == pre)
        return pre; /* nothing of it was answered */
    size_t first = last;
    while (first > pre && p->blocks[first - 1].role == PROMPT_ASSISTANT)
        first--;
    const bool *keep = context_keep(p, first, a);
    if (!keep)
        return p->nblocks;
    size_t bytes = 0;
    bool spoken = false, results = false;
    for (size_t i = first; i < p->nblocks; i++) {
        const struct prompt_block *b = &p->blocks[i];
        bool result = b->kind == PROMPT_TOOL_RESULT;
        if (keep[i] && (i < last || result))
            bytes += b->len;
        results = results || (keep[i] && result);
        spoken = spoken || (b->role == PROMPT_USER && !result);
    }
    /* An answer with nothing behind it would be a prompt to finish that answer. */
    if ((spoken || results) && bytes <= EXCHANGE_BYTES)
        return first;
    return spoken ? last : p->nblocks;
}

/* What the blocks before `start` weigh, in bytes. */
struct weight {
    int64_t own;  /* the user's words */
    int64_t gain; /* what a compaction leaves out */
    bool halve;   /* nothing but half of the user's words can go, and they are most of it */
};

static struct weight weigh(const struct prompt *p, size_t start)
{
    struct weight w = {0};
    for (size_t i = 0; i < start; i++) {
        const struct prompt_block *b = &p->blocks[i];
        if (b->own)
            w.own += (int64_t)b->len;
        else if (!b->pre && b->role != PROMPT_SYSTEM)
            w.gain += (int64_t)(b->len - b->media_bytes) + b->media_tokens * 3;
    }
    if (w.own > USER_HEAD_BYTES + USER_TAIL_BYTES)
        w.gain += w.own - USER_HEAD_BYTES - USER_TAIL_BYTES;
    w.halve = w.gain < GAIN_BYTES && w.own > WORDS_MIN_BYTES &&
              w.own >= (p->text_bytes + p->media_tokens * 3) / 2;
    return w;
}

static bool is_worth_it(const struct prompt *p, size_t start)
{
    struct weight w = weigh(p, start);
    return w.gain >= GAIN_BYTES || w.halve;
}

/* Where nothing can go but what nobody has answered yet: behind all of that but its last few words.
 */
static size_t tail_cut(const struct prompt *p, size_t start)
{
    size_t i = p->nblocks, bytes = 0;
    while (i > start) {
        const struct prompt_block *b = &p->blocks[i - 1];
        bytes += b->len + (size_t)b->media_tokens * 3;
        if (b->pre || b->role == PROMPT_ASSISTANT || b->kind == PROMPT_TOOL_RESULT ||
            bytes > WORDS_MIN_BYTES)
            break;
        i--;
    }
    return i;
}

bool prompt_can_compact(const struct prompt *p)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    return p->lost || is_worth_it(p, tail_start(p, &a));
}

bool prompt_can_cut(const struct prompt *p)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    size_t start = tail_start(p, &a);
    return p->lost || is_worth_it(p, start) || is_worth_it(p, tail_cut(p, start));
}

/* ---- the user's own words, and the operator's ---- */

struct str context_text(const struct prompt *p, const struct prompt_block *b, struct arena *a)
{
    const struct json *v;
    struct err err;
    if (json_parse(a, prompt_raw(p, b), JSON_ALLOW_DUPLICATES, &v, &err))
        return STR("");
    struct str text = json_get_str(v, "text");
    return str_some(text) ? text : STR("");
}

static struct str utf8_end(struct str s, size_t max)
{
    struct str end = str_skip(s, s.len > max ? s.len - max : 0);
    while (end.len && ((unsigned char)end.ptr[0] & 0xC0) == 0x80)
        end = str_skip(end, 1);
    return end;
}

/* Texts, oldest first; an absent one says that some were left out there. */
struct words {
    struct str *text;
    size_t n;
};

static void add_words(struct words *w, struct str text)
{
    if (str_some(text) || w->n == 0 || str_some(w->text[w->n - 1]))
        w->text[w->n++] = text;
}

static bool is_word_of(enum prompt_role who, const struct prompt_block *b)
{
    return who == PROMPT_SYSTEM ? b->role == PROMPT_SYSTEM && b->kind == PROMPT_TEXT : b->own;
}

/* The blocks before `until` that are the words of the user or operator, or stand for the user's. */
static size_t find_own(const struct prompt *p, enum prompt_role who, size_t until,
                       const struct prompt_block **own, size_t *bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < until; i++) {
        const struct prompt_block *b = &p->blocks[i];
        if (!is_word_of(who, b) && (who == PROMPT_SYSTEM || b->kind != PROMPT_GAP))
            continue;
        own[n++] = b;
        *bytes += b->len;
    }
    return n;
}

static struct str own_text(const struct prompt *p, const struct prompt_block *b, struct arena *a)
{
    return b->kind == PROMPT_GAP ? STR_NONE : context_text(p, b, a);
}

/* Whole texts from both ends, as far as they fit; a first or newest one that is too long for itself
 * is cut. False past the arena's bound. */
static bool pick_words(const struct prompt *p, enum prompt_role who, size_t until, struct arena *a,
                       size_t head_max, size_t tail_max, struct words *out)
{
    const struct prompt_block **own = arena_alloc(a, (until + 1) * sizeof *own);
    struct str *newest = ARENA_ARRAY(a, struct str, until + 1);
    *out = (struct words){.text = ARENA_ARRAY(a, struct str, until + 4)};
    if (!own || !newest || !out->text)
        return false;
    size_t bytes = 0, n = find_own(p, who, until, own, &bytes), i = 0, j = n, used = 0;
    if (bytes <= head_max + tail_max)
        head_max = bytes; /* all of it: what a block has around its text is more than a separator */
    for (; i < n; i++) {
        struct str t = own_text(p, own[i], a);
        if (used + t.len + SEPARATOR_BYTES > head_max)
            break;
        used += t.len + SEPARATOR_BYTES;
        add_words(out, t);
    }
    used = 0;
    for (; j > i; j--) {
        struct str t = own_text(p, own[j - 1], a);
        if (used + t.len + SEPARATOR_BYTES > tail_max)
            break;
        used += t.len + SEPARATOR_BYTES;
        newest[j - 1] = t;
    }
    if (j > i) {
        if (i == 0 && own[0]->kind != PROMPT_GAP && head_max > SEPARATOR_BYTES)
            add_words(out, str_utf8_take(own_text(p, own[0], a), head_max - SEPARATOR_BYTES));
        add_words(out, STR_NONE);
        if (j == n && own[n - 1]->kind != PROMPT_GAP && tail_max > SEPARATOR_BYTES)
            add_words(out, utf8_end(own_text(p, own[n - 1], a), tail_max - SEPARATOR_BYTES));
    }
    for (; j < n; j++)
        add_words(out, newest[j]);
    return !a->failed;
}

/* The user's words for a transcript. What is bounded for a large context may fill a small one: then
 * each further compaction keeps half of them. */
static bool pick_user(const struct prompt *p, size_t until, struct arena *a, struct words *out)
{
    struct weight w = weigh(p, until);
    size_t head = USER_HEAD_BYTES, tail = USER_TAIL_BYTES;
    if (w.halve) {
        size_t half = (size_t)w.own / 2;
        head = half / 7;
        tail = half - head;
    }
    return pick_words(p, PROMPT_USER, until, a, head, tail, out);
}

static void words_text(const struct prompt *p, enum prompt_role who, size_t max_bytes,
                       struct buf *out)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    struct words w;
    if (!pick_words(p, who, p->nblocks, &a, max_bytes / 4, max_bytes - max_bytes / 4, &w))
        return;
    AUTO_BUF struct buf text = BUF_INIT(SIZE_MAX / 2);
    for (size_t i = 0; i < w.n; i++) {
        if (i)
            buf_z(&text, "\n\n");
        buf_str(&text, str_some(w.text[i]) ? w.text[i] : STR("[...]"));
    }
    buf_str(out, str_utf8_take(buf_view(&text), max_bytes));
}

void prompt_user_text(const struct prompt *p, size_t max_bytes, struct buf *out)
{
    words_text(p, PROMPT_USER, max_bytes, out);
}

void prompt_operator_text(const struct prompt *p, size_t max_bytes, struct buf *out)
{
    words_text(p, PROMPT_SYSTEM, max_bytes, out);
}

/* ---- writing ---- */

void context_put(struct context_writer *w, enum prompt_role role, struct str raw)
{
    if (w->open == role) {
        buf_ch(w->buf, ',');
    } else {
        buf_z(w->buf, w->open == PROMPT_NONE ? "[" : "]},");
        buf_z(w->buf, "{\"role\":\"");
        buf_z(w->buf, prompt_role_name(role));
        buf_z(w->buf, "\",\"content\":[");
        w->open = role;
    }
    buf_str(w->buf, raw);
}

void context_put_words(struct context_writer *w, struct str text)
{
    context_put(w, PROMPT_USER, STR("{\"type\":\"text\",\"text\":"));
    json_quote(w->buf, text);
    buf_ch(w->buf, '}');
}

void context_close(struct context_writer *w)
{
    buf_z(w->buf, w->open == PROMPT_NONE ? "[]" : "]}]");
}

static void put_tail(const struct prompt *p, size_t start, const bool *keep, struct buf *out)
{
    struct context_writer w = {.buf = out};
    for (size_t i = start; i < p->nblocks; i++)
        if (keep[i])
            context_put(&w, p->blocks[i].role, prompt_raw(p, &p->blocks[i]));
    context_close(&w);
}

static void put_transcript(const struct prompt *p, size_t start, const struct words *user,
                           struct str summary, struct str tail, struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_key(&w, "user");
    jw_arr(&w);
    for (size_t i = 0; i < user->n; i++) {
        if (str_some(user->text[i]))
            jw_str(&w, user->text[i]);
        else
            jw_null(&w);
    }
    jw_arr_end(&w);
    jw_key(&w, "system");
    jw_arr(&w);
    for (size_t i = 0; i < start; i++)
        if (p->blocks[i].role == PROMPT_SYSTEM)
            jw_raw(&w, prompt_raw(p, &p->blocks[i]));
    jw_arr_end(&w);
    jw_kstr(&w, "summary", summary.len ? str_utf8_take(summary, SUMMARY_BYTES) : STR_NONE);
    jw_kraw(&w, "tail", tail);
    jw_obj_end(&w);
}

static bool reads(struct str text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *v;
    struct err err;
    return json_parse(&a, text, JSON_ALLOW_DUPLICATES, &v, &err) == 0;
}

int prompt_compacted(const struct prompt *p, struct arena *a, struct str summary, struct str *out,
                     struct err *err)
{
    AUTO_ARENA struct arena tmp;
    arena_init(&tmp, LIMIT_JSON_ARENA);
    size_t start = tail_start(p, &tmp), cut = tail_cut(p, start);
    if (!is_worth_it(p, start) && is_worth_it(p, cut))
        start = cut;
    const bool *keep = context_keep(p, start, &tmp);
    struct words user;
    if (!keep || !pick_user(p, start, &tmp, &user))
        return err_set(err, ERR_LIMIT, "the conversation has too many parts");
    AUTO_BUF struct buf tail = BUF_INIT(TRANSCRIPT_BYTES);
    AUTO_BUF struct buf text = BUF_INIT(TRANSCRIPT_BYTES);
    put_tail(p, start, keep, &tail);
    put_transcript(p, start, &user, summary, buf_ok(&tail) ? buf_view(&tail) : STR("[]"), &text);
    /* The tail stands a level deeper here: a call nested to the very limit would make a log that
     * cannot be read again. */
    if (!buf_ok(&text) || !reads(buf_view(&text))) {
        buf_clear(&text);
        if (!pick_user(p, p->nblocks, &tmp, &user))
            return err_set(err, ERR_LIMIT, "the conversation has too many parts");
        put_transcript(p, p->nblocks, &user, summary, STR("[]"), &text);
    }
    struct str copy = buf_ok(&text) ? arena_str(a, buf_view(&text)) : STR_NONE;
    if (!str_some(copy))
        return err_set(err, ERR_LIMIT, "the conversation is too long to be compacted");
    *out = copy;
    return 0;
}

/* ---- folding ---- */

static enum prompt_role role_of(const struct json *message)
{
    for (int r = PROMPT_USER; r <= PROMPT_SYSTEM; r++)
        if (str_eqz(json_get_str(message, "role"), prompt_role_name((enum prompt_role)r)))
            return (enum prompt_role)r;
    return PROMPT_NONE;
}

/* NULL, or what is wrong. */
static const char *check(const struct json *doc)
{
    int64_t v;
    if (!json_i64(json_get(doc, "v"), &v) || v != 1)
        return "not of version 1";
    if (!json_is(json_get(doc, "user"), JSON_ARRAY))
        return "user is not an array";
    json_for_each (text, json_get(doc, "user"))
        if (!json_is(text, JSON_STRING) && !json_is(text, JSON_NULL))
            return "user holds something else than text";
    if (!prompt_is_content(json_get(doc, "system")))
        return "system is not an array of blocks";
    const struct json *summary = json_get(doc, "summary");
    if (!json_is(summary, JSON_STRING) && !json_is(summary, JSON_NULL))
        return "summary is not text";
    if (!prompt_is_content(json_get(doc, "tail")))
        return "tail is not an array of messages";
    json_for_each (message, json_get(doc, "tail"))
        if (role_of(message) == PROMPT_NONE || !prompt_is_content(json_get(message, "content")))
            return "tail holds something else than messages";
    return NULL;
}

static void put_preamble(struct prompt *p, int64_t seq, const struct json *doc)
{
    const struct json *user = json_get(doc, "user");
    struct str summary = json_get_str(doc, "summary");
    prompt_put_words(p, PROMPT_LABEL, seq,
                     user->count ? LITERAL(label_user) : LITERAL(label_plain));
    json_for_each (text, user) {
        if (text->type == JSON_NULL)
            prompt_put_words(p, PROMPT_GAP, seq, LITERAL(label_gap));
        else
            prompt_put_words(p, PROMPT_TEXT, seq, text->str);
    }
    if (summary.len == 0) {
        prompt_put_words(p, PROMPT_LABEL, seq, LITERAL(label_no_summary));
        return;
    }
    prompt_put_words(p, PROMPT_LABEL, seq, LITERAL(label_summary));
    prompt_put_words(p, PROMPT_SUMMARY, seq, summary);
    prompt_put_words(p, PROMPT_LABEL, seq, LITERAL(label_resume));
}

int context_fold(struct prompt *p, const struct event *e, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc;
    int rc = json_parse(&a, e->transcript, JSON_ALLOW_DUPLICATES, &doc, err);
    if (rc)
        return err_wrap(err, "transcript of event %s", e->id.z);
    const char *wrong = check(doc);
    if (wrong)
        return err_set(err, ERR_PARSE, "transcript of event %s: %s", e->id.z, wrong);
    prompt_reset(p);
    put_preamble(p, e->seq, doc);
    json_for_each (block, json_get(doc, "system"))
        prompt_put_kept(p, PROMPT_SYSTEM, e->seq, block);
    for (size_t i = 0; i < p->nblocks; i++)
        p->blocks[i].pre = true;
    json_for_each (message, json_get(doc, "tail"))
        json_for_each (block, json_get(message, "content"))
            prompt_put_kept(p, role_of(message), e->seq, block);
    return 0;
}
