/* call: one outgoing request: its curl handle, its response so far, its deadlines. Internal to
 * http/.
 *
 * Loop thread. Belongs to its client's list until it is freed: after on_done, or after a cancel,
 * but never inside one of curl's own call-backs.
 */
#ifndef OSTLER_HTTP_CALL_H
#define OSTLER_HTTP_CALL_H

#include "base/list.h"
#include "base/sm.h"
#include "http/client.h"

#include <curl/curl.h>

/*     FRESH ──added to curl──▶ WAIT ──final head──▶ BODY ──complete, failed──▶ DONE
 *       │ cancelled              │ failed             │ cancelled
 *       └──────────────▶ DONE ◀──┴────────────────────┘
 */
enum call_state { CALL_FRESH, CALL_WAIT, CALL_BODY, CALL_DONE };

struct http_client {
    struct loop *loop;
    CURLM *multi;
    struct list calls;      /* struct http_call, all */
    struct loop_timer wake; /* curl's own timeouts, and work put off by a call-back */
    size_t nsockets;        /* poll handles not closed yet */
    size_t ntimers;         /* calls whose timer is closing */
    int depth;              /* inside curl: it must not be re-entered */
    bool closing, wake_closed;
    int64_t curl_at_ms; /* when curl wants to be called; INT64_MAX: not */
    bool touched;       /* some call is to be looked at by client_sweep() */
    void (*closed)(void *arg);
    void *closed_arg;
};

struct http_call {
    struct list node;
    struct http_client *client;
    struct sm sm;
    CURL *easy;
    struct curl_slist *headers, *connect_to;
    struct http_call_params p; /* strings in it are not kept but for the call-backs and limits */
    char *body;
    char *host; /* for messages: the URL may hold secrets */
    struct loop_timer timer;
    int64_t start_ms, mark_ms; /* of the start, of the last byte */
    uint64_t got;
    struct arena arena; /* the response head while it comes */
    struct http_header *heads;
    size_t nheads;
    int status;
    bool paused; /* the caller wants no data */
    bool held;   /* curl was told to stop */
    bool cancelled;
    bool failed; /* `err` says why, whatever curl says */
    struct err err;
    char curl_says[CURL_ERROR_SIZE];
};

/* ---- client.c ---- */
void client_touch(struct http_client *c); /* a sweep soon, from the loop */
void client_call_gone(struct http_client *c);

/* ---- call.c ---- */
void call_free(struct http_call *call);
/* curl is finished with it: on_done, then free. */
void call_finish(struct http_call *call, CURLcode code);
void call_unhold(struct http_call *call);

void client_need_curl(struct http_client *c);
#endif
