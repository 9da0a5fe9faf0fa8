/* environment_decode: environment bodies to patches, patches onto stored environments. Pure. */
#ifndef OSTLER_API_ENVIRONMENT_DECODE_H
#define OSTLER_API_ENVIRONMENT_DECODE_H

#include "json/writer.h"

struct environment_patch {
    bool create;
    struct str name;                                    /* decoded; absent: keep */
    const struct json *description, *metadata, *config; /* NULL: keep */
};

/* INVALID; a config that names another type than the stored one is refused when applied. */
int environment_patch_decode(const struct json *body, bool create, struct environment_patch *out,
                             struct err *err) MUST_USE;
/* `stored` is the body of the row (absent when creating); out: the new body, {"name":...,...}. */
int environment_patch_apply(struct arena *a, const struct environment_patch *p, struct str stored,
                            struct str *out, struct err *err) MUST_USE;

#endif
