/* multipart: a multipart/form-data body (RFC 7578) taken apart while it arrives. Pure: no sockets,
 * no files.
 *
 * One thread. A struct multipart is embedded by its owner and holds no more than one part's head,
 * whatever the body's length; data is handed on in place. Strict: the body begins with its first
 * boundary and ends with the last one (and at most one line end), lines end in CR LF, every part
 * has one Content-Disposition with a name. After an error nothing more may be fed.
 */
#ifndef OSTLER_HTTP_MULTIPART_H
#define OSTLER_HTTP_MULTIPART_H

#include "base/buf.h"

enum {
    MULTIPART_BOUNDARY_MAX = 70, /* RFC 2046 */
    MULTIPART_HEAD_MAX = 8 * 1024,
    MULTIPART_HEAD_LINES = 16,
    MULTIPART_PARTS_MAX = 64, /* unless the owner says otherwise: parts_max */
    MULTIPART_DELIMITER_MAX = 4 + MULTIPART_BOUNDARY_MAX, /* CR LF - - boundary */
};

/* The head of a part, decoded; views live until the part ends. */
struct multipart_part {
    struct str name;     /* valid UTF-8, never empty */
    struct str filename; /* absent: none was given; valid UTF-8, may be empty or hold a path */
    struct str type;     /* the Content-Type as it was sent; absent: none */
};

/* Each returns 0, or a negative code that it stored in err: the parser stops with it. */
struct multipart_sink {
    int (*begin)(void *arg, const struct multipart_part *part, struct err *err);
    int (*data)(void *arg, struct str piece, struct err *err); /* never empty */
    int (*end)(void *arg, struct err *err);
};

enum multipart_state {
    MULTIPART_START,    /* the first boundary, without a line end before it */
    MULTIPART_BOUNDARY, /* behind a boundary: CR LF, or the two dashes of the last one */
    MULTIPART_HEAD,
    MULTIPART_DATA,
    MULTIPART_EPILOGUE, /* behind the last one: nothing, or one CR LF */
    MULTIPART_BROKEN,
};

struct multipart {
    const struct multipart_sink *sink;
    void *arg;
    enum multipart_state state;
    char delimiter[MULTIPART_DELIMITER_MAX];
    size_t delimiter_len;
    size_t matched; /* bytes of what is awaited that have come */
    char tail;      /* MULTIPART_BOUNDARY: the first of its two bytes */
    unsigned parts;
    unsigned parts_max; /* the owner may change it before the first feed */
    struct buf head;    /* of the part that begins */
    struct buf text;    /* its decoded name, filename and type */
};

/* `content_type` is the request's header. INVALID at "content-type" when it is not
 * multipart/form-data with a proper boundary. After a failure nothing needs to be freed. */
int multipart_init(struct multipart *m, struct str content_type, const struct multipart_sink *sink,
                   void *arg, struct err *err) MUST_USE;
void multipart_fini(struct multipart *m);
/* The next bytes of the body, cut anywhere. INVALID for what breaks the format; what the sink
 * returned. */
int multipart_feed(struct multipart *m, struct str bytes, struct err *err) MUST_USE;
/* The body is over: INVALID when its last boundary has not come. */
int multipart_finish(struct multipart *m, struct err *err) MUST_USE;

#endif
