#include "model/failure.h"

#include "base/limits.h"
#include "json/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void failure_text(struct model_failure *f, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct str s = str_n(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
    }
    /* The text may have been cut inside a code point, or hold bytes that never were one. */
    struct str cut = str_utf8_take(s, s.len);
    while (cut.len && !str_utf8(cut))
        cut.len--;
    if (cut.len + 4 < s.len) { /* bad bytes in the middle: keep what is ASCII */
        cut = s;
        for (size_t i = 0; i < s.len; i++) {
            if ((unsigned char)text[i] >= 0x80)
                text[i] = '?';
        }
    }
    (void)str_copyz(f->message, sizeof f->message, str_utf8_take(cut, sizeof f->message - 1));
}

/* ---- what was said ---- */

static bool has_any(struct str message, const char *const *needles)
{
    for (size_t i = 0; needles[i]; i++) {
        if (str_find(message, str_z(needles[i])) >= 0)
            return true;
    }
    return false;
}

static bool says_context(struct str m)
{
    static const char *const needles[] = {"prompt is too long", "exceed context limit",
                                          "context window",     "context length",
                                          "context size",       NULL};
    return has_any(m, needles);
}

static bool says_billing(struct str m)
{
    static const char *const needles[] = {"credit balance", "billing", "Billing", NULL};
    return has_any(m, needles);
}

/* Types of the Messages API, types and codes of chat completions and of the servers that imitate
 * it. What is a refusal of the request as such may still be about credit or length. */
static const struct {
    const char *word;
    enum model_error_kind kind;
} words[] = {
    {"overloaded_error", MODEL_ERR_OVERLOADED},
    {"server_overloaded", MODEL_ERR_OVERLOADED},
    {"unavailable_error", MODEL_ERR_OVERLOADED},
    {"billing_error", MODEL_ERR_BILLING},
    {"insufficient_quota", MODEL_ERR_BILLING},
    {"rate_limit_error", MODEL_ERR_RATE_LIMITED},
    {"rate_limit_exceeded", MODEL_ERR_RATE_LIMITED},
    {"authentication_error", MODEL_ERR_AUTH},
    {"permission_error", MODEL_ERR_AUTH},
    {"invalid_api_key", MODEL_ERR_AUTH},
    {"request_too_large", MODEL_ERR_CONTEXT},
    {"context_length_exceeded", MODEL_ERR_CONTEXT},
    {"exceed_context_size_error", MODEL_ERR_CONTEXT},
    {"timeout_error", MODEL_ERR_FAILED},
    {"api_error", MODEL_ERR_FAILED},
    {"server_error", MODEL_ERR_FAILED},
    {"invalid_request_error", MODEL_ERR_REQUEST},
    {"not_found_error", MODEL_ERR_REQUEST},
    {"model_not_found", MODEL_ERR_REQUEST},
};

static bool word_kind(struct str word, enum model_error_kind *kind)
{
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (str_eqz(word, words[i].word)) {
            *kind = words[i].kind;
            return true;
        }
    }
    return false;
}

static enum model_error_kind status_kind(int status)
{
    switch (status) {
    case 402: return MODEL_ERR_BILLING;
    case 401:
    case 403: return MODEL_ERR_AUTH;
    case 408:
    case 409: return MODEL_ERR_FAILED;
    case 413: return MODEL_ERR_CONTEXT; /* only a shorter conversation can pass */
    case 429: return MODEL_ERR_RATE_LIMITED;
    case 503:
    case 529: return MODEL_ERR_OVERLOADED;
    default: return status >= 300 && status < 500 ? MODEL_ERR_REQUEST : MODEL_ERR_FAILED;
    }
}

/* The code is more precise than the type, both are than the status; an error inside a stream has
 * none. */
static enum model_error_kind kind_of(const struct failure_said *said)
{
    enum model_error_kind kind;
    int status = said->status;
    if (status == 402 || status == 429 || status == 503 || status == 529) {
        /* These speak for themselves, whatever a gateway calls them; but a spent quota is no rush.
         */
        kind = status_kind(status);
        enum model_error_kind word = kind;
        if (kind == MODEL_ERR_RATE_LIMITED && !word_kind(said->code, &word))
            (void)word_kind(said->type, &word);
        return word == MODEL_ERR_BILLING || word == MODEL_ERR_OVERLOADED ? word : kind;
    }
    if (!word_kind(said->code, &kind) && !word_kind(said->type, &kind))
        kind = status_kind(status);
    bool request = kind == MODEL_ERR_REQUEST || (status >= 400 && status < 500);
    if (!request || kind == MODEL_ERR_OVERLOADED || kind == MODEL_ERR_RATE_LIMITED)
        return kind;
    if (says_billing(said->message))
        return MODEL_ERR_BILLING;
    if (kind != MODEL_ERR_AUTH && says_context(said->message))
        return MODEL_ERR_CONTEXT;
    return kind;
}

static void remedy(char out[160], const struct failure_names *names, enum model_error_kind kind,
                   int status)
{
    out[0] = '\0';
    if (kind == MODEL_ERR_CONTEXT)
        snprintf(out, 160, "; the conversation must become shorter");
    else if (!names)
        return;
    else if (kind == MODEL_ERR_AUTH)
        snprintf(out, 160, "; check %.100s", names->key);
    else if (kind == MODEL_ERR_BILLING)
        snprintf(out, 160, "; add credit to the account of %.100s", names->key);
    else if (kind == MODEL_ERR_REQUEST && status == 404)
        snprintf(out, 160, "; check the model id and %.100s", names->url);
    else if (kind == MODEL_ERR_REQUEST && status >= 300 && status < 400)
        snprintf(out, 160, "; check %.100s", names->url);
}

/* Before anything is cut: half a key is too much of it. */
static void hide(char *text, size_t len, const char *secret)
{
    struct str needle = str_z(secret), rest = str_n(text, len);
    for (ptrdiff_t at; needle.len >= 4 && (at = str_find(rest, needle)) >= 0;) {
        char *found = text + (rest.ptr - text) + at;
        memset(found, '*', needle.len);
        rest = str_skip(rest, (size_t)at + needle.len);
    }
}

enum { SAID_MAX = 4096 };

void failure_set(struct model_failure *f, const struct failure_names *names,
                 const struct failure_said *said)
{
    f->kind = kind_of(said);
    f->http_status = said->status;
    char head[96], end[160], text[SAID_MAX];
    if (said->status)
        snprintf(head, sizeof head, "the model provider answered %d", said->status);
    else
        snprintf(head, sizeof head, "the model provider reported an error");
    remedy(end, names, f->kind, said->status);
    struct str message = str_take(said->message, sizeof text);
    if (message.len)
        memcpy(text, message.ptr, message.len);
    if (names)
        hide(text, message.len, names->secret);
    struct str kind = str_take(said->type.len ? said->type : said->code, 40);
    /* Room is left for the remedy, which is the part that helps. */
    size_t room = sizeof f->message - 1 - strlen(end) - strlen(head) - kind.len - 3;
    message = str_utf8_take(str_n(text, message.len), room < 110 ? room : 110);
    failure_text(f, "%s%s" STR_FMT "%s" STR_FMT "%s", head, kind.len ? " " : "", STR_ARG(kind),
                 message.len ? ": " : "", STR_ARG(message), end);
}

void failure_json(struct model_failure *f, const struct failure_names *names, int status,
                  const struct json *doc)
{
    const struct json *error = json_get(doc, "error");
    bool text = json_is(error, JSON_STRING);
    const struct json *holder = json_is(error, JSON_OBJECT) ? error : doc;
    struct failure_said said = {.status = status, .message = json_get_str(holder, "message")};
    if (!str_some(said.message))
        said.message = text ? error->str : json_get_str(doc, "message");
    /* Without an error object, "type" is that of the document. */
    if (holder != doc || str_eqz(json_get_str(doc, "object"), "error"))
        said.type = json_get_str(holder, "type");
    const struct json *code = json_get(holder, "code");
    int64_t number;
    if (json_is(code, JSON_STRING))
        said.code = code->str;
    else if (status == 0 && json_i64(code, &number) && number >= 400 && number < 600)
        said.status = (int)number;
    failure_set(f, names, &said);
}

void failure_body(struct model_failure *f, const struct failure_names *names, int status,
                  struct str body)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc = NULL;
    struct err err;
    if (json_parse(&a, body, JSON_ALLOW_DUPLICATES, &doc, &err) == 0) {
        failure_json(f, names, status, doc);
        return;
    }
    /* A page of HTML helps nobody; a short plain text may. */
    bool plain = body.len && body.len <= 200 && body.ptr[0] != '<';
    failure_set(
        f, names,
        &(struct failure_said){.status = status, .message = plain ? str_trim(body) : STR_NONE});
}

/* ---- retry-after ---- */

static int64_t capped(int64_t ms)
{
    return ms < 0 ? 0 : ms > LIMIT_RETRY_AFTER_MS ? LIMIT_RETRY_AFTER_MS : ms;
}

/* A decimal number with an optional fraction, times `unit`; -1 when it is none. */
static int64_t decimal(struct str s, int64_t unit)
{
    s = str_trim(s);
    ptrdiff_t point = str_find_ch(s, '.');
    int64_t whole, value;
    if (s.len == 0 || !str_i64(point < 0 ? s : str_take(s, (size_t)point), &whole) || whole < 0)
        return -1;
    if (whole > LIMIT_RETRY_AFTER_MS)
        whole = LIMIT_RETRY_AFTER_MS;
    value = whole * unit;
    if (point >= 0) {
        struct str rest = str_skip(s, (size_t)point + 1);
        for (int64_t place = unit / 10; rest.len; place /= 10, rest = str_skip(rest, 1)) {
            if (rest.ptr[0] < '0' || rest.ptr[0] > '9')
                return -1;
            value += (rest.ptr[0] - '0') * place;
        }
    }
    return value;
}

int64_t failure_retry_after(struct str ms, struct str after, int64_t now_unix_us)
{
    int64_t value = decimal(ms, 1);
    if (value < 0)
        value = decimal(after, 1000);
    if (value >= 0)
        return capped(value);
    char date[64];
    struct tm tm = {0};
    if (!str_some(after) || !str_copyz(date, sizeof date, str_trim(after)) ||
        !strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        return 0;
    time_t at = timegm(&tm);
    return at == (time_t)-1 ? 0 : capped((int64_t)at * 1000 - now_unix_us / 1000);
}
