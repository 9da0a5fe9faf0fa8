/* Bytes from a sandbox: a TLS hello, an authority, a request's head as the proxy reads them. The
 * first byte says which. */
#include "base/limits.h"
#include "base/mem.h"
#include "egress/hello.h"
#include "http/parse.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void canonical(const char *host)
{
    char again[HOST_MAX];
    must(host_canonical(str_z(host), again) && strcmp(again, host) == 0);
}

/* Grown byte by byte it must say MORE until it says what the whole says. */
static void hello(struct str in)
{
    char name[HOST_MAX], early[HOST_MAX];
    enum hello_result r = hello_parse(in, name);
    if (r == HELLO_NAME)
        canonical(name);
    must(r != HELLO_MORE || in.len < HELLO_BYTES_MAX);
    size_t step = in.len > 512 ? in.len / 64 : 1;
    for (size_t n = 0; n < in.len; n += step) {
        enum hello_result part = hello_parse(str_take(in, n), early);
        if (part == HELLO_MORE)
            continue;
        must(part == r && (r != HELLO_NAME || strcmp(name, early) == 0));
        break;
    }
}

static void authority(struct str in)
{
    struct authority a, b;
    if (authority_parse(in, 80, &a, NULL))
        return;
    char text[HOST_MAX + 16];
    bool v6 = a.literal && a.ip.v6;
    must(a.port > 0 && a.host[0]);
    snprintf(text, sizeof text, "%s%s%s:%u", v6 ? "[" : "", a.host, v6 ? "]" : "", a.port);
    must(authority_parse(str_z(text), 0, &b, NULL) == 0 && authority_eq(&a, &b));
    if (!a.literal)
        canonical(a.host);
}

static void head(struct str in, bool response)
{
    AUTO_ARENA struct arena a;
    size_t at = 0;
    arena_init(&a, LIMIT_HTTP_HEAD * 8);
    if (in.len > LIMIT_HTTP_HEAD || http_head_end(in, &at) != HTTP_HEAD_WHOLE)
        return;
    struct http_parser p = {.proxy = true};
    struct str whole = arena_str(&a, str_take(in, at));
    if (response) {
        if (http_parse_response(&p, &a, whole, false, NULL) == 0)
            must(p.code >= 100 && p.code <= 999);
        return;
    }
    if (http_parse_head(&p, &a, whole, NULL)) {
        must(p.status >= 400 && p.status <= 505);
        return;
    }
    must(p.authority.len > 0);
    authority(p.authority);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct str in = str_n((const char *)data + 1, len - 1);
    switch (data[0] % 4) {
    case 0: hello(in); break;
    case 1: authority(in); break;
    case 2: head(in, false); break;
    default: head(in, true); break;
    }
    return 0;
}
