/* apikey: API keys: made, hashed, seeded at first start, kept for the commands of the same host.
 *
 * Main thread, before or after the loop runs other work. Only hashes are stored; DATA/api-key (mode
 * 0600) holds the one key that `ostler run` uses on this host, if the server had to make one.
 */
#ifndef OSTLER_CLI_APIKEY_H
#define OSTLER_CLI_APIKEY_H

#include "store/store.h"

#define APIKEY_MAX 256
#define APIKEY_DEFAULT_WORKSPACE "default"

struct apikey {
    char z[APIKEY_MAX];
};

struct apikey apikey_new(void); /* "sk-ostler-" and 48 random hexadecimal digits */

enum apikey_seed { APIKEY_KEPT, APIKEY_FROM_ENV, APIKEY_MADE, APIKEY_UNKNOWN_ENV };
/* First start (no key at all): stores OSTLER_API_KEY, or makes one and writes DATA/api-key. Later:
 * keeps what is there; APIKEY_UNKNOWN_ENV when OSTLER_API_KEY is set and is none of the stored
 * keys. Runs the loop until the store has answered. */
int apikey_seed(struct loop *l, struct store *s, const char *data, enum apikey_seed *out,
                struct err *err) MUST_USE;
/* OSTLER_API_KEY, else DATA/api-key (`data` may be NULL). AUTH with the remedy when there is none.
 */
int apikey_find(const char *data, struct apikey *out, struct err *err) MUST_USE;

/* Adds a key to a workspace, which is created on first use; `out_id` is the row's id. */
int apikey_add(struct loop *l, struct store *s, struct str workspace, struct str name,
               const struct apikey *key, struct id *out_id, struct err *err) MUST_USE;

/* Runs one store job to its end on the loop; for commands without other work. */
int apikey_job(struct loop *l, struct store *s, struct store_job *job, bool write,
               struct err *err) MUST_USE;

#endif
