/* resources: what clients attached to a session: files and repositories.
 *
 * Functions of a transaction, on store threads. The rows are what clients see; what the sandbox is
 * made with is session_row.provision, which is written in the same transaction.
 */
#ifndef OSTLER_STORE_RESOURCES_H
#define OSTLER_STORE_RESOURCES_H

#include "store/store.h"

struct resource_row {
    struct id id;
    struct str kind;   /* file, github_repository */
    struct str body;   /* JSON as it is served */
    struct str secret; /* sealed (store/secret.h); absent: none */
    struct id file_id; /* the session's copy of a file; empty: none */
    int64_t created_us, updated_us;
};

int tx_resource_insert(struct store_tx *tx, int64_t session_key, const struct resource_row *row,
                       struct err *err) MUST_USE;
int tx_resource_get(struct store_tx *tx, int64_t session_key, struct str id, struct arena *a,
                    struct resource_row *out, struct err *err) MUST_USE;
/* Writes body, secret and updated_us. */
int tx_resource_update(struct store_tx *tx, int64_t session_key, const struct resource_row *row,
                       struct err *err) MUST_USE;
int tx_resource_delete(struct store_tx *tx, int64_t session_key, struct str id,
                       struct err *err) MUST_USE;
/* Oldest first. */
int tx_resource_list(struct store_tx *tx, int64_t session_key, const struct page *page,
                     struct arena *a, struct resource_row **out, size_t *n, bool *more,
                     struct err *err) MUST_USE;
/* session_config.provision and the session's updated_us. */
int tx_session_provision(struct store_tx *tx, int64_t session_key, struct str provision,
                         int64_t updated_us, struct err *err) MUST_USE;

#endif
