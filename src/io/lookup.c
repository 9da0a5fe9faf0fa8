/* Name resolution by getaddrinfo() on libuv's pool. */
#include "base/mem.h"
#include "io/stream.h"

#include <netdb.h>
#include <stdio.h>

struct lookup {
    uv_getaddrinfo_t uv;
    void (*done)(void *arg, const struct err *err, const struct sockaddr_storage *addresses,
                 size_t n);
    void *arg;
    char name[256];
};

static size_t collect(const struct addrinfo *all, struct sockaddr_storage *out)
{
    size_t n = 0;
    for (const struct addrinfo *a = all; a && n < LOOKUP_ADDRESSES; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
            continue;
        memset(&out[n], 0, sizeof out[n]);
        memcpy(&out[n++], a->ai_addr, a->ai_addrlen);
    }
    return n;
}

static int explain(struct err *err, const char *name, int status)
{
    switch (status) {
    case 0:
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_ADDRFAMILY:
    case UV_EAI_FAIL: return err_set(err, ERR_NOT_FOUND, "the name %s has no address", name);
    case UV_EAI_AGAIN:
        return err_set(err, ERR_UNAVAILABLE, "the resolver did not answer for %s", name);
    default:
        return err_set(err, ERR_IO, "the name %s cannot be resolved: %s", name,
                       uv_strerror(status));
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct lookup *q = CONTAINER_OF(req, struct lookup, uv);
    struct sockaddr_storage addresses[LOOKUP_ADDRESSES];
    struct err err = {.code = 0};
    size_t n = status == 0 ? collect(res, addresses) : 0;
    if (n == 0)
        explain(&err, q->name, status);
    q->done(q->arg, &err, addresses, n);
    uv_freeaddrinfo(res);
    mem_free(q);
}

int lookup_start(struct loop *l, const char *name,
                 void (*done)(void *arg, const struct err *err,
                              const struct sockaddr_storage *addresses, size_t n),
                 void *arg, struct err *err)
{
    struct lookup *q = mem_zalloc(sizeof *q);
    q->done = done;
    q->arg = arg;
    snprintf(q->name, sizeof q->name, "%s", name);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    int rc = uv_getaddrinfo(loop_uv(l), &q->uv, on_resolved, q->name, NULL, &hints);
    if (rc) {
        explain(err, name, rc);
        mem_free(q);
        return err ? err->code : ERR_IO;
    }
    return 0;
}
