/* secret: sealing of what clients entrust to the server, with a key that is not in the database.
 *
 * Blocking calls on a small file; any thread but the loop. The key is DATA/secret-key, made at
 * first use (mode 0600) and never replaced: without it what was sealed is lost. A sealed secret is
 * bound to the object it belongs to.
 */
#ifndef OSTLER_STORE_SECRET_H
#define OSTLER_STORE_SECRET_H

#include "base/arena.h"

enum { SECRET_MAX = 16 * 1024 };

/* `owner`: the id of its object. The result lives in the arena. TOO_LARGE over SECRET_MAX. */
int secret_seal(const char *data_dir, struct str owner, struct str secret, struct arena *a,
                struct str *out, struct err *err) MUST_USE;
/* CORRUPT when it was sealed with another key, for another object, or was changed. */
int secret_open(const char *data_dir, struct str owner, struct str sealed, struct arena *a,
                struct str *out, struct err *err) MUST_USE;

#endif
