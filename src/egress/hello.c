/* RFC 8446 4.1.2 and RFC 6066 3. A reader that runs past its end stays failed, and every length is
 * checked against what encloses it. */
#include "egress/hello.h"

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_HEAD = 5,
    RECORD_MAX = 16 * 1024,
    CLIENT_HELLO = 1,
    MESSAGE_HEAD = 4,
    EXTENSION_SERVER_NAME = 0,
    NAME_TYPE_HOST = 0,
};

struct reader {
    const unsigned char *at;
    size_t left;
    bool failed;
};

static unsigned take(struct reader *r, size_t bytes)
{
    unsigned v = 0;
    if (r->failed || r->left < bytes) {
        r->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | r->at[i];
    r->at += bytes;
    r->left -= bytes;
    return v;
}

/* A vector whose length comes in `bytes` bytes. */
static struct reader vector(struct reader *r, size_t bytes)
{
    size_t len = take(r, bytes);
    struct reader v = {.at = r->at, .left = len};
    if (r->failed || r->left < len) {
        r->failed = true;
        return (struct reader){.failed = true};
    }
    r->at += len;
    r->left -= len;
    return v;
}

/* Exactly one entry, of the only type there is. */
static bool server_name(struct reader body, char name[HOST_MAX])
{
    struct reader list = vector(&body, 2);
    unsigned type = take(&list, 1);
    struct reader host = vector(&list, 2);
    if (body.failed || list.failed || host.failed || body.left || list.left ||
        type != NAME_TYPE_HOST)
        return false;
    return host_canonical(str_n((const char *)host.at, host.left), name);
}

static enum hello_result client_hello(struct reader r, char name[HOST_MAX])
{
    bool found = false;
    unsigned version = take(&r, 2);
    for (int i = 0; i < 4; i++)
        (void)take(&r, 8); /* random */
    struct reader session = vector(&r, 1), suites = vector(&r, 2), compression = vector(&r, 1);
    if (r.failed || version >> 8 != 3 || session.left > 32 || suites.left < 2 ||
        compression.left < 1)
        return HELLO_BAD;
    if (r.left == 0)
        return HELLO_NO_NAME; /* TLS 1.2 without extensions */
    struct reader extensions = vector(&r, 2);
    if (r.failed || r.left)
        return HELLO_BAD;
    while (extensions.left) {
        unsigned type = take(&extensions, 2);
        struct reader body = vector(&extensions, 2);
        if (extensions.failed)
            return HELLO_BAD;
        if (type != EXTENSION_SERVER_NAME)
            continue;
        /* Two of them: nobody knows which one the server would take. */
        if (found || !server_name(body, name))
            return HELLO_BAD;
        found = true;
    }
    return found ? HELLO_NAME : HELLO_NO_NAME;
}

static bool whole(const unsigned char *message, size_t n)
{
    if (n < MESSAGE_HEAD)
        return false;
    struct reader r = {.at = message + 1, .left = 3};
    return n - MESSAGE_HEAD >= take(&r, 3);
}

/* Puts the message together from its records; early data may follow in records of its own. Returns
 * its bytes so far, or -1 when this is none. */
static ptrdiff_t gather(struct str in, unsigned char *out)
{
    size_t n = 0;
    while (in.len && !whole(out, n)) {
        const unsigned char *p = (const unsigned char *)in.ptr;
        if (p[0] != RECORD_HANDSHAKE || (in.len > 1 && p[1] != 3))
            return -1;
        if (in.len < RECORD_HEAD)
            break;
        size_t len = (size_t)p[3] << 8 | p[4];
        if (len == 0 || len > RECORD_MAX)
            return -1;
        size_t have = in.len - RECORD_HEAD < len ? in.len - RECORD_HEAD : len;
        if (have > HELLO_MESSAGE_MAX - n)
            have = HELLO_MESSAGE_MAX - n;
        memcpy(out + n, p + RECORD_HEAD, have);
        n += have;
        if (n == HELLO_MESSAGE_MAX)
            break;
        in = str_skip(in, RECORD_HEAD + len);
    }
    return (ptrdiff_t)n;
}

enum hello_result hello_parse(struct str in, char name[HOST_MAX])
{
    unsigned char message[HELLO_MESSAGE_MAX];
    ptrdiff_t n = gather(in, message);
    if (n < 0 || (n > 0 && message[0] != CLIENT_HELLO))
        return HELLO_BAD;
    enum hello_result more = in.len < HELLO_BYTES_MAX ? HELLO_MORE : HELLO_BAD;
    if (n < MESSAGE_HEAD)
        return more;
    struct reader r = {.at = message + 1, .left = (size_t)n - 1};
    size_t len = take(&r, 3);
    if (len > HELLO_MESSAGE_MAX - MESSAGE_HEAD)
        return HELLO_BAD;
    if (r.left < len)
        return more;
    r.left = len; /* what follows in its record is the server's to judge */
    return client_hello(r, name);
}
