#include "model/anthropic_stream.h"

#include "base/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void anthropic_error_text(struct model_failure *f, const char *fmt, ...)
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

static bool has(struct str message, const char *needle)
{
    return str_find(message, str_z(needle)) >= 0;
}

static bool says_context(struct str m)
{
    return has(m, "prompt is too long") || has(m, "exceed context limit") ||
           has(m, "context window") || has(m, "maximum context length");
}

static bool says_billing(struct str m)
{
    return has(m, "credit balance") || has(m, "billing") || has(m, "Billing");
}

/* The type decides where there is one: an error event inside a stream has no status. */
static enum model_error_kind kind_of(int status, struct str type, struct str m)
{
    if (str_eqz(type, "overloaded_error") || status == 529 || status == 503)
        return MODEL_ERR_OVERLOADED;
    if (str_eqz(type, "billing_error") || status == 402)
        return MODEL_ERR_BILLING;
    if (str_eqz(type, "rate_limit_error") || status == 429)
        return MODEL_ERR_RATE_LIMITED;
    bool client = status >= 400 && status < 500;
    bool request = str_eqz(type, "invalid_request_error") || str_eqz(type, "request_too_large");
    if ((request || client) && says_billing(m))
        return MODEL_ERR_BILLING;
    if (str_eqz(type, "authentication_error") || str_eqz(type, "permission_error") ||
        status == 401 || status == 403)
        return MODEL_ERR_AUTH;
    if ((request || client) && says_context(m))
        return MODEL_ERR_CONTEXT;
    /* Only a shorter conversation can pass. */
    if (str_eqz(type, "request_too_large") || status == 413)
        return MODEL_ERR_CONTEXT;
    if (str_eqz(type, "timeout_error") || str_eqz(type, "api_error") || status == 408 ||
        status == 409)
        return MODEL_ERR_FAILED;
    if (request || str_eqz(type, "not_found_error") || client || (status >= 300 && status < 400))
        return MODEL_ERR_REQUEST;
    return MODEL_ERR_FAILED;
}

static const char *remedy(enum model_error_kind kind, int status)
{
    switch (kind) {
    case MODEL_ERR_AUTH: return "; check ANTHROPIC_API_KEY";
    case MODEL_ERR_BILLING: return "; add credit to the account of ANTHROPIC_API_KEY";
    case MODEL_ERR_CONTEXT: return "; the conversation must become shorter";
    case MODEL_ERR_REQUEST:
        return status == 404                   ? "; check the model id and ANTHROPIC_BASE_URL"
               : status >= 300 && status < 400 ? "; check ANTHROPIC_BASE_URL"
                                               : "";
    case MODEL_ERR_OVERLOADED:
    case MODEL_ERR_RATE_LIMITED:
    case MODEL_ERR_FAILED: break;
    }
    return "";
}

void anthropic_error_set(struct model_failure *f, int status, struct str type, struct str message)
{
    f->kind = kind_of(status, type, message);
    f->http_status = status;
    char head[96];
    if (status)
        snprintf(head, sizeof head, "the model provider answered %d", status);
    else
        snprintf(head, sizeof head, "the model provider reported an error");
    /* Room is left for the remedy, which is the part that helps. */
    struct str said = str_utf8_take(message, 110);
    struct str kind = str_take(type, 40);
    anthropic_error_text(f, "%s%s" STR_FMT "%s" STR_FMT "%s", head, kind.len ? " " : "",
                         STR_ARG(kind), said.len ? ": " : "", STR_ARG(said),
                         remedy(f->kind, status));
}

void anthropic_error_body(struct model_failure *f, int status, struct str body)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc = NULL;
    struct err err;
    if (json_parse(&a, body, JSON_ALLOW_DUPLICATES, &doc, &err))
        doc = NULL;
    const struct json *error = json_get(doc, "error");
    struct str message = json_get_str(error, "message");
    if (!str_some(message))
        message = json_get_str(doc, "message");
    if (!str_some(message))
        message = json_is(error, JSON_STRING) ? error->str : STR_NONE;
    /* A page of HTML helps nobody; a short plain text may. */
    if (!doc && body.len && body.len <= 200 && body.ptr[0] != '<')
        message = str_trim(body);
    anthropic_error_set(f, status, json_get_str(error, "type"), message);
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

int64_t anthropic_retry_after(struct str ms, struct str after, int64_t now_unix_us)
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
