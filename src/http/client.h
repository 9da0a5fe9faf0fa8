/* client: outgoing HTTP on curl's multi interface, driven by the loop. The only user of curl.
 *
 * Loop thread. Connections are pooled per client. HTTP/1.1, certificates are verified, redirects
 * are not followed, the usual proxy variables of the environment are honoured. No call-back runs
 * inside http_call_start(), http_call_cancel() or http_call_pause(); calls may be started,
 * cancelled and paused inside any call-back. A call is gone when on_done returns.
 */
#ifndef OSTLER_HTTP_CLIENT_H
#define OSTLER_HTTP_CLIENT_H

#include "http/http.h"
#include "io/loop.h"

struct http_client;
struct http_call;

struct http_client *http_client_new(struct loop *l);
/* Cancels what runs; `closed` when nothing is left. */
void http_client_close(struct http_client *c, void (*closed)(void *arg), void *arg);

struct http_call_params {
    const char *method;
    const char *url;
    const char *unix_socket; /* NULL, or the path to connect to instead */
    /* NULL, or "ADDRESS:PORT" ("[V6]:PORT") to connect to instead: the URL's name is not looked up,
     * no proxy is asked, no pooled connection is taken and none is left. */
    const char *connect_to;
    bool decompress; /* asks for a compressed response; on_data and max_response see it unpacked */
    const struct http_header *headers;
    size_t nheaders;
    struct str body;       /* copied; absent: none */
    int64_t connect_ms;    /* 0: none, for each of the three */
    int64_t first_byte_ms; /* from start to the response head */
    int64_t silence_ms;    /* between bytes of the response */
    uint64_t max_response; /* bytes; more ends the call with TOO_LARGE; 0: none */
    /* The final response head (1xx are skipped). Headers are valid during the call. */
    void (*on_head)(void *arg, int status, const struct http_header *headers, size_t n);
    void (*on_data)(void *arg, struct str piece);
    /* Once, last; err->code 0 when the response is complete. CONNECT, TIMEOUT, PROTOCOL, TOO_LARGE.
     */
    void (*on_done)(void *arg, const struct err *err);
    void *arg;
};

/* NULL only for a malformed URL, method or header (err INVALID). All parameters are copied. */
struct http_call *http_call_start(struct http_client *c, const struct http_call_params *p,
                                  struct err *err);
/* No further call-back. The call is gone for the caller. Harmless inside its own on_done. */
void http_call_cancel(struct http_call *call);
/* Stops and goes on reading the response (backpressure). No data comes while paused; curl holds at
 * most one piece and then leaves the bytes in the socket. */
void http_call_pause(struct http_call *call, bool paused);

#endif
