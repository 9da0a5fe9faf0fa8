/* The head is split and checked here, by the grammar of RFC 9112 without its tolerances; llhttp
 * then reads the same bytes, so that both must agree, and frames the body. */
#include "http/parse.h"

#include "base/limits.h"

#include <llhttp.h>

enum { TRAILER_MAX = 8 * 1024, NAME_SHOWN = 40 };

/* ---- the end of the head ---- */

enum http_head_state http_head_end(struct str in, size_t *at)
{
    if (in.len && *at == 0 && !http_is_token(in.ptr[0]))
        return HTTP_HEAD_BAD;
    /* *at is where a line starts: behind the last line feed seen. */
    while (*at < in.len) {
        const char *line = in.ptr + *at;
        const char *lf = memchr(line, '\n', in.len - *at);
        if (!lf)
            break;
        if (lf == line || lf[-1] != '\r')
            return HTTP_HEAD_BAD;
        *at = (size_t)(lf - in.ptr) + 1;
        if (lf == line + 1)
            return HTTP_HEAD_WHOLE;
    }
    return HTTP_HEAD_MORE;
}

/* ---- errors ---- */

static int refuse(struct http_parser *p, struct err *err, int status, const char *why)
{
    p->status = status;
    int code = status == 431   ? ERR_HEADERS_TOO_LARGE
               : status >= 500 ? ERR_NOT_IMPLEMENTED
                               : ERR_INVALID;
    return err_set(err, code, "%s", why);
}

static int refuse_header(struct http_parser *p, struct err *err, struct str name, const char *why)
{
    p->status = 400;
    char at[NAME_SHOWN];
    if (!str_copyz(at, sizeof at, str_take(name, sizeof at - 1)))
        at[0] = '\0';
    return err_at(err, ERR_INVALID, at, "header %s: %s", at, why);
}

/* ---- request line ---- */

static int split_version(struct http_parser *p, struct str version, struct err *err)
{
    if (str_eq(version, STR("HTTP/1.1")))
        p->minor = 1;
    else if (str_eq(version, STR("HTTP/1.0")))
        p->minor = 0;
    else if (str_starts(version, STR("HTTP/")) && version.len == 8 && version.ptr[6] == '.')
        return refuse(p, err, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    else
        return refuse(p, err, 400, "the request line must be: METHOD SP target SP HTTP/1.1");
    return 0;
}

/* Origin form, absolute form (whose authority says what Host says), or "*" for OPTIONS. */
static int split_target(struct http_parser *p, struct str target, struct err *err)
{
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return refuse(p, err, 400,
                          "the request target holds a byte that must be percent-encoded");
    }
    if (target.len && target.ptr[0] != '/') {
        bool http = target.len > 7 && str_eq_nocase(str_take(target, 7), STR("http://"));
        bool https = target.len > 8 && str_eq_nocase(str_take(target, 8), STR("https://"));
        bool star = str_eq(target, STR("*")) && str_eq(p->method, STR("OPTIONS"));
        if (!http && !https && !star)
            return refuse(p, err, 400, "the request target must start with \"/\"");
        if (!star) {
            target = str_skip(target, http ? 7 : 8);
            size_t n = 0;
            while (n < target.len && target.ptr[n] != '/' && target.ptr[n] != '?')
                n++;
            p->authority = str_take(target, n);
            p->https = https;
            target = str_skip(target, n);
        }
    }
    if (p->proxy && p->authority.len == 0)
        return refuse(p, err, 400,
                      "this is a proxy: the request target must be an absolute URL, as in "
                      "GET http://example.com/ HTTP/1.1");
    p->query = target;
    p->path = str_split(&p->query, '?');
    if (p->path.len == 0)
        p->path = STR("/");
    if (!str_some(p->query))
        p->query = STR("");
    return 0;
}

static int split_request_line(struct http_parser *p, struct str line, struct err *err)
{
    struct str rest = line;
    p->method = str_split(&rest, ' ');
    struct str target = str_some(rest) ? str_split(&rest, ' ') : STR_NONE;
    if (p->method.len == 0 || target.len == 0 || !str_some(rest))
        return refuse(p, err, 400, "the request line must be: METHOD SP target SP HTTP/1.1");
    for (size_t i = 0; i < p->method.len; i++)
        if (!http_is_token(p->method.ptr[i]))
            return refuse(p, err, 400, "the request method is malformed");
    int rc = split_version(p, rest, err);
    if (rc)
        return rc;
    if (!str_eq(p->method, STR("CONNECT")))
        return split_target(p, target, err);
    if (!p->proxy)
        return refuse(p, err, 501, "CONNECT is not served here");
    p->authority = p->path = target;
    p->query = STR("");
    return 0;
}

static int split_status_line(struct http_parser *p, struct str line, struct err *err)
{
    struct str rest = line;
    struct str version = str_split(&rest, ' ');
    struct str code = str_some(rest) ? str_split(&rest, ' ') : STR_NONE;
    int64_t number = 0;
    bool ok = str_eq(version, STR("HTTP/1.1")) || str_eq(version, STR("HTTP/1.0"));
    if (!ok || code.len != 3 || !str_i64(code, &number) || number < 100 || number > 999)
        return refuse(p, err, 502, "the response does not start with HTTP/1.1 and a status");
    for (size_t i = 0; str_some(rest) && i < rest.len; i++)
        if (((unsigned char)rest.ptr[i] < 0x20 && rest.ptr[i] != '\t') || rest.ptr[i] == 0x7f)
            return refuse(p, err, 502, "the response's status line holds a control character");
    p->minor = version.ptr[7] - '0';
    p->code = (int)number;
    return 0;
}

/* ---- header lines ---- */

static int split_header(struct http_parser *p, struct str line, struct http_header *h,
                        struct err *err)
{
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return refuse(p, err, 400, "a header line starts with a blank: folded lines are not taken");
    ptrdiff_t colon = str_find_ch(line, ':');
    if (colon <= 0)
        return refuse(p, err, 400, "a header line has no name and colon");
    h->name = str_take(line, (size_t)colon);
    for (size_t i = 0; i < h->name.len; i++)
        if (!http_is_token(h->name.ptr[i]))
            return refuse(p, err, 400,
                          "a header name is malformed (no blank may stand before its colon)");
    h->value = str_trim(str_skip(line, (size_t)colon + 1));
    for (size_t i = 0; i < h->value.len; i++) {
        unsigned char c = (unsigned char)h->value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return refuse_header(p, err, h->name, "the value holds a control character");
    }
    return 0;
}

static struct str next_line(struct str *rest)
{
    struct str line = str_split(rest, '\n');
    return str_take(line, line.len - 1); /* http_head_end() saw the CR */
}

static int split_head(struct http_parser *p, struct arena *a, struct str head, struct err *err)
{
    struct str rest = head;
    struct str first = next_line(&rest);
    int rc = p->response ? split_status_line(p, first, err) : split_request_line(p, first, err);
    if (rc)
        return rc;
    size_t lines = 0;
    for (struct str r = rest; next_line(&r).len;)
        lines++;
    if (lines > LIMIT_HTTP_HEADERS)
        return refuse(p, err, 431, "the request has too many header lines");
    p->headers = ARENA_ARRAY(a, struct http_header, lines ? lines : 1);
    if (!p->headers)
        return refuse(p, err, 431, "the request head is too large");
    for (; p->nheaders < lines; p->nheaders++) {
        rc = split_header(p, next_line(&rest), &p->headers[p->nheaders], err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- what the headers say ---- */

static bool host_ok(struct str v)
{
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && !strchr("-._~%!$&'()*+,;=:[]", c))
            return false;
    }
    return true;
}

static bool digits_only(struct str v)
{
    for (size_t i = 0; i < v.len; i++)
        if (v.ptr[i] < '0' || v.ptr[i] > '9')
            return false;
    return v.len > 0;
}

struct seen {
    int host, length, coding;
};

static int check_header(struct http_parser *p, const struct http_header *h, struct seen *seen,
                        struct err *err)
{
    /* One look at the length keeps most headers from being compared at all. */
    switch (h->name.len) {
    case 4:
        if (!str_eq_nocase(h->name, STR("Host")))
            break;
        if (++seen->host > 1)
            return refuse_header(p, err, h->name, "must be given once");
        return host_ok(h->value) ? 0 : refuse_header(p, err, h->name, "is not a host name");
    case 6:
        if (!str_eq_nocase(h->name, STR("Expect")) || p->minor == 0 || p->response)
            break;
        if (!str_eq_nocase(h->value, STR("100-continue")))
            return refuse(p, err, 417, "header Expect: only 100-continue is understood");
        p->expect_continue = true;
        break;
    case 14:
        if (!str_eq_nocase(h->name, STR("Content-Length")))
            break;
        if (++seen->length > 1)
            return refuse_header(p, err, h->name, "must be given once");
        return digits_only(h->value) && h->value.len <= 18
                   ? 0
                   : refuse_header(p, err, h->name, "must be a decimal number of bytes");
    case 17:
        if (!str_eq_nocase(h->name, STR("Transfer-Encoding")))
            break;
        if (++seen->coding > 1)
            return refuse_header(p, err, h->name, "must be given once");
        return str_eq_nocase(h->value, STR("chunked"))
                   ? 0
                   : refuse(p, err, 501, "header Transfer-Encoding: only chunked is understood");
    default: break;
    }
    return 0;
}

static int check_headers(struct http_parser *p, struct err *err)
{
    struct seen seen = {.host = 0};
    for (size_t i = 0; i < p->nheaders; i++) {
        int rc = check_header(p, &p->headers[i], &seen, err);
        if (rc)
            return rc;
    }
    /* A CONNECT says in its target where it goes; older clients leave the rest out. */
    if (p->minor == 1 && !seen.host && !p->response && !str_eq(p->method, STR("CONNECT")))
        return refuse_header(p, err, STR("Host"), "is required");
    if (seen.coding && seen.length)
        return refuse_header(p, err, STR("Transfer-Encoding"),
                             "must not come together with Content-Length");
    if (seen.coding && p->minor == 0)
        return refuse_header(p, err, STR("Transfer-Encoding"), "HTTP/1.0 has none");
    return 0;
}

/* ---- llhttp ---- */

static int on_headers_complete(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    /* llhttp would wait for the body that a 304's length speaks of. */
    if (p->response && (p->code < 200 || p->code == 204 || p->code == 304))
        p->empty = true;
    p->until_close = p->response && !p->empty && llhttp_message_needs_eof(ll);
    p->keep_alive = p->minor == 1 && llhttp_should_keep_alive(ll);
    p->chunked = (ll->flags & F_CHUNKED) != 0;
    p->content_length = p->chunked ? UINT64_MAX : ll->content_length;
    ll->upgrade = 0;         /* an Upgrade is an offer; not taking it is allowed */
    return p->empty ? 1 : 0; /* 1: there is no body */
}

static int on_message_complete(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    p->complete = true;
    return HPE_PAUSED; /* the next request's bytes are not this one's */
}

static int on_body(llhttp_t *ll, const char *at, size_t len)
{
    struct http_parser *p = ll->data;
    if (!p->on_body)
        return HPE_USER; /* a body before the head's end: the two readings differ */
    return p->on_body(p->arg, str_n(at, len)) ? 0 : HPE_PAUSED;
}

/* Chunk extensions and trailers are skipped, but not without end. */
static int on_skipped(llhttp_t *ll, const char *at, size_t len)
{
    (void)at;
    struct http_parser *p = ll->data;
    if (!p->chunked)
        return 0; /* still in the head */
    if (len > p->trailer_left)
        return HPE_USER;
    p->trailer_left -= len;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_message_complete = on_message_complete,
    .on_body = on_body,
    .on_chunk_extension_name = on_skipped,
    .on_chunk_extension_value = on_skipped,
    .on_header_field = on_skipped,
    .on_header_value = on_skipped,
};

static int execute(struct http_parser *p, struct str in, size_t *used, struct err *err)
{
    llhttp_errno_t e = llhttp_execute(p->ll, in.ptr, in.len);
    *used = in.len;
    if (e == HPE_OK)
        return 0;
    if (e == HPE_PAUSED) {
        *used = (size_t)(llhttp_get_error_pos(p->ll) - in.ptr);
        llhttp_resume(p->ll);
        return 0;
    }
    if (e == HPE_INVALID_METHOD)
        return refuse(p, err, 501, "the request method is not known");
    if (e == HPE_USER)
        return refuse(p, err, 431, "the chunk extensions or trailers are too large");
    p->status = 400;
    return err_set(err, ERR_INVALID, "the request is malformed: %s",
                   llhttp_get_error_reason(p->ll));
}

static int parse(struct http_parser *p, struct arena *a, struct str head, struct err *err)
{
    p->status = 0;
    p->nheaders = 0;
    p->complete = p->expect_continue = p->chunked = p->https = p->until_close = false;
    p->authority = STR_NONE;
    p->trailer_left = TRAILER_MAX;
    int rc = split_head(p, a, head, err);
    if (rc == 0)
        rc = check_headers(p, err);
    if (rc)
        return rc;
    if (!p->response && str_eq(p->method, STR("CONNECT"))) {
        p->complete = p->keep_alive = true; /* what follows is not HTTP */
        p->content_length = 0;
        return 0;
    }
    p->ll = ARENA_NEW(a, llhttp_t);
    if (!p->ll)
        return refuse(p, err, 431, "the request head is too large");
    llhttp_init(p->ll, p->response ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
    p->ll->data = p;
    size_t used;
    rc = execute(p, head, &used, err);
    if (rc == 0 && used != head.len)
        rc = refuse(p, err, 400, "the request head is malformed");
    return rc;
}

int http_parse_head(struct http_parser *p, struct arena *a, struct str head, struct err *err)
{
    p->response = p->empty = false;
    return parse(p, a, head, err);
}

int http_parse_response(struct http_parser *p, struct arena *a, struct str head, bool to_head,
                        struct err *err)
{
    p->response = true;
    p->empty = to_head;
    return parse(p, a, head, err);
}

int http_parse_body(struct http_parser *p, struct str in, size_t *used, struct err *err)
{
    *used = 0;
    /* In one message, llhttp never consumes past its end: it pauses there. */
    return p->complete || in.len == 0 ? 0 : execute(p, in, used, err);
}
