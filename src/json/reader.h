/* reader: what reader.c and string.c share; internal to json/. One parse, on its stack. */
#ifndef OSTLER_JSON_READER_H
#define OSTLER_JSON_READER_H

#include "base/limits.h"
#include "json/json.h"

struct reader {
    const char *begin, *at, *end;
    struct arena *arena;
    struct err *err;
    unsigned flags;
    unsigned depth; /* open containers */
    /* The value being read at each depth, [0] the document; NULL between two values. Failures build
     * their JSON pointer from it, so that success pays nothing for it but a store. */
    const struct json *path[LIMIT_JSON_DEPTH + 1];
};

/* Stores "Invalid JSON at line L, column C: ..." for the byte at `where`. Returns ERR_PARSE. */
int reader_fail(struct reader *r, const char *where, const char *fmt, ...) PRINTF(3, 4);
/* Stores that the arena is full. Returns ERR_LIMIT. */
int reader_fail_arena(struct reader *r);
/* Reads a string whose opening quote is at r->at; leaves r->at behind the closing one. */
int reader_string(struct reader *r, struct str *out) MUST_USE;

#endif
