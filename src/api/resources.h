/* resources: what is attached to a session (files, repositories), from the request to the rows and
 * to what the sandbox is made with. Internal to api/.
 *
 * Decoding is pure; the other functions run inside a transaction, on a store thread.
 */
#ifndef OSTLER_API_RESOURCES_H
#define OSTLER_API_RESOURCES_H

#include "api/api_impl.h"
#include "store/resources.h"

struct resource_in {
    bool repository;
    struct str file_id;
    struct str mount_path;     /* as given; absent: the default */
    struct str path;           /* in the sandbox; absent: a file's default, which needs its id */
    struct str url, token;     /* token absent: none */
    struct str branch, commit; /* at most one */
    char at[ERR_AT_MAX];       /* where it stands in the request */
};

/* The `resources` of a request that creates a session. NULL and null are fine. */
int resources_decode(struct arena *a, const struct json *list, bool allow_http,
                     struct resource_in **out, size_t *n, struct err *err) MUST_USE;
/* One file, of a request that adds it; the whole body. */
int resource_decode_file(struct arena *a, const struct json *body, struct resource_in *out,
                         struct err *err) MUST_USE;

struct resource_made {
    struct resource_row row;
    struct str entry; /* of the provision */
    bool repository;
    struct file_row copy; /* of a file; without an id: its content alone */
};
/* Looks up the files, gives ids, seals tokens. NOT_FOUND naming the field. */
int resources_make(struct store_tx *tx, struct call *c, const struct session_row *session,
                   const struct resource_in *in, size_t n, struct resource_made **out,
                   struct err *err) MUST_USE;
/* The rows of those, once the session is there. */
int resources_insert(struct store_tx *tx, struct call *c, int64_t session_key,
                     const struct resource_made *made, size_t n, struct err *err) MUST_USE;

/* A provision with resources added, and one taken out or replaced (by the one that is added);
 * whatever else it holds is kept. `old` absent: none yet. */
int resources_provision(struct arena *a, struct str old, struct str without,
                        const struct resource_made *made, size_t n, struct str *out,
                        struct err *err) MUST_USE;
/* INVALID when a file of the provision has that path, or one lies below the other. */
int resources_check_path(struct arena *a, struct str provision, const struct resource_in *in,
                         struct err *err) MUST_USE;

#endif
