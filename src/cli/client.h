/* client: the commands' HTTP client: one request after another, each waited for on the loop.
 *
 * Main thread; never called from a call-back of the loop. The caller owns it. A request that cannot
 * reach the server is tried again until `patience_ms` is over (a restart is not an error), creating
 * ones under the same Idempotency-Key.
 */
#ifndef OSTLER_CLI_CLIENT_H
#define OSTLER_CLI_CLIENT_H

#include "cli/apikey.h"
#include "http/client.h"
#include "json/json.h"

struct client {
    struct loop *loop;
    struct http_client *http;
    char base[512]; /* "http://127.0.0.1:8787", without a slash at the end */
    struct apikey key;
    int64_t patience_ms;
    bool interrupted; /* set by whoever handles signals, with loop_stop(): a waiting call ends */
};

/* Takes the loop; `base` is checked. */
int client_open(struct client *c, struct loop *l, const char *base, const struct apikey *key,
                struct err *err) MUST_USE;
/* The same with the key that apikey_find() finds. Without one AUTH, or CONNECT if the server could
 * not have been reached anyway. */
int client_open_found(struct client *c, struct loop *l, const char *base, const char *data,
                      struct err *err) MUST_USE;
void client_close(struct client *c); /* runs the loop until the connections are gone */

struct client_request {
    const char *method;
    const char *path;            /* "/v1/sessions" and query */
    struct str body;             /* absent: none */
    const char *content_type;    /* NULL: application/json */
    const char *idempotency_key; /* POST; NULL: one is made */
    int out_fd;                  /* with to_file: where the body goes instead */
    bool to_file;
};

/* 0 with the body of a 2xx answer in `out` (or in the file). CONNECT when the server cannot be
 * reached, CANCELED when interrupted; an error answer becomes the error of its status, its message
 * with the server's own words. */
int client_send(struct client *c, const struct client_request *r, struct buf *out,
                struct err *err) MUST_USE;
/* The same for JSON, parsed into `a`. */
int client_json(struct client *c, const char *method, const char *path, struct str body,
                struct arena *a, const struct json **out, struct err *err) MUST_USE;

/* What every request carries; `n` entries of `h` are filled. Values live as long as the client. */
#define CLIENT_HEADERS 4
size_t client_headers(const struct client *c, struct http_header h[CLIENT_HEADERS]);
/* The error of an answer that is none of 2xx. */
int client_error(int status, struct str body, struct err *err);

#endif
