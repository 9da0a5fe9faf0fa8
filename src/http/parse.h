/* parse: one HTTP/1.x request from bytes: finds the end of its head, checks the head more strictly
 * than llhttp X
 *
 * One thread. Views point into the arena that http_parse_head() was given. After an error `status`
 * is the answer to send.
 */
#ifndef OSTLER_HTTP_PARSE_H
#define OSTLER_HTTP_PARSE_H

#include "http/http.h"

enum http_head_state { HTTP_HEAD_MORE, HTTP_HEAD_WHOLE, HTTP_HEAD_BAD };

/* Looks for the blank line that ends a head. `*at` is 0 at first and remembers how far it looked,
 * so that a head that comes byte by byte costs no second look; when whole, `*at` is the head's
 * length. BAD: a line that does not end in CR LF, or a first byte that starts no request. */
enum http_head_state http_head_end(struct str in, size_t *at);

struct llhttp__internal_s;

struct http_parser {
    struct llhttp__internal_s *ll; /* in the arena */
    int status;                    /* after an error: 400, 417, 431, 501, 505 */
    int minor;                     /* HTTP/1.minor */
    bool keep_alive, chunked, expect_continue;
    bool complete; /* the whole message was consumed */
    bool proxy; /* set by the caller: CONNECT is taken, and the target must be an absolute form */
    bool https; /* proxy: the target's scheme */
    bool until_close;        /* response: its body ends with the connection */
    bool response, empty;    /* response; one that has no body, whatever its head says */
    int code;                /* response: its status */
    struct str authority;    /* proxy: of the target */
    uint64_t content_length; /* 0 without a body, UINT64_MAX when chunked */
    struct str method, path, query;
    struct http_header *headers;
    size_t nheaders;
    size_t trailer_left; /* bytes that chunk extensions and trailers may still take */
    /* A piece of the body; false stops http_parse_body() behind it. */
    bool (*on_body)(void *arg, struct str piece);
    void *arg;
};

/* `head` is what http_head_end() measured; it must outlive the parser (it lies in the arena). */
int http_parse_head(struct http_parser *p, struct arena *a, struct str head,
                    struct err *err) MUST_USE;
/* The same for the head of a response. `to_head`: the request was HEAD. After a failure there is
 * only `err`. */
int http_parse_response(struct http_parser *p, struct arena *a, struct str head, bool to_head,
                        struct err *err) MUST_USE;
/* Feeds body bytes; `*used` of them were consumed: all, unless the message is complete or on_body
 * returned false. */
int http_parse_body(struct http_parser *p, struct str in, size_t *used, struct err *err) MUST_USE;

#endif
