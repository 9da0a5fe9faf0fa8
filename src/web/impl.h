/* impl: what the files of web/ share. Loop thread, except a page's work while it is on the pool.
 * struct web belongs to whoever opened it, a run to its list until nothing refers to it any more.
 */
#ifndef OSTLER_WEB_IMPL_H
#define OSTLER_WEB_IMPL_H

#include "base/arena.h"
#include "base/list.h"
#include "core/web_rules.h"
#include "egress/address.h"
#include "http/client.h"
#include "http/link.h"
#include "io/stream.h"
#include "web/html.h"
#include "web/web.h"

enum {
    WEB_HOPS = 6,                /* requests of one fetch: five redirects */
    WEB_ADDRESSES = 4,           /* tried for one name */
    WEB_ANSWER_ROOM = 64 * 1024, /* of an answer, beside the text */
};

struct web_name {
    const char *name;
    struct ip ip;
};

struct web {
    struct loop *loop;
    struct http_client *http;
    struct arena arena;
    const char *search_url, *search_key, *pdftotext;
    int64_t fetch_bytes, timeout_ms;
    struct ip_range *allow;
    size_t nallow;
    struct web_name *names;
    size_t nnames;
    web_lookup *lookup;
    struct list runs;
    bool closing, http_closed;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* One call. It is freed when it is over and nothing refers to it any more: a lookup and work on
 * the pool cannot be taken back. */
struct web_run {
    struct list node;
    struct web *web;
    char id[64];
    void (*done)(void *arg, const struct tool_outcome *outcome);
    void *arg;
    void (*begin)(struct web_run *r);
    struct arena arena;
    struct loop_timer timer; /* first to begin, then the deadline */
    int64_t until_ms;
    unsigned pending; /* handles, lookups, work, children */
    bool over;
    struct http_call *http;
    const struct json *input, *config;
    struct buf body;
    int status;
    struct str type; /* Content-Type of the last response */

    /* web_fetch */
    struct http_link link;
    bool refused_source;
    unsigned hops;
    struct ip addresses[WEB_ADDRESSES];
    size_t naddresses, tried;
    char mistake[512]; /* in the input */
    struct pdf_job *pdf;
};

/* ---- web.c ---- */
/* The end: `done` gets the text. Harmless when it is over already. */
void web_end(struct web_run *r, struct str text, bool is_error);
void web_fail(struct web_run *r, const char *fmt, ...) PRINTF(2, 3);
void web_run_release(struct web_run *r); /* one thing less refers to it */
void web_drop_http(struct web_run *r);

void fetch_begin(struct web_run *r);  /* fetch.c */
void search_begin(struct web_run *r); /* search.c */

/* ---- page.c: what came, as text ---- */
/* Takes over from fetch.c when the response is complete. */
void page_begin(struct web_run *r);
/* `text` is UTF-8: ends the run with the answer made of it. */
void page_answer(struct web_run *r, const char *title, struct str text, bool cut, bool counts);

/* ---- pdf.c ---- */
void pdf_begin(struct web_run *r);
void pdf_cancel(struct web_run *r);

#endif
