/* doctor: `ostler doctor`: what works on this host, and what to do about what does not.
 *
 * Main thread; everything lives on the command's stack until it ends. The parts look at one matter
 * each and add checks; only doctor.c prints. The names of checks and facts are documented in
 * docs/operations.md and kept.
 */
#ifndef OSTLER_CLI_DOCTOR_H
#define OSTLER_CLI_DOCTOR_H

#include "base/buf.h"
#include "cli/config.h"
#include "json/writer.h"

enum doctor_state { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

enum { DOCTOR_CHECKS = 64, DOCTOR_PATH = 4096 };

struct doctor_check {
    const char *name; /* "sandbox.tier" */
    enum doctor_state state;
    char found[512];
    char remedy[512];  /* "": none is needed */
    struct buf facts;  /* members of a JSON object */
    struct jw writer;  /* over `facts` */
    char own_name[80]; /* where the name is made */
};

struct doctor {
    struct config config;
    bool deep, probe;
    bool data_exists, data_writable;
    char place[DOCTOR_PATH];   /* the data directory, or the nearest one above that is there */
    char scratch[DOCTOR_PATH]; /* a directory of our own to try things in; "": there is none */
    int64_t began_wall_us, began_mono_us;
    struct doctor_check checks[DOCTOR_CHECKS];
    size_t n;
};

/* Never NULL; one too many replaces the last. */
struct doctor_check *doctor_add(struct doctor *d, const char *name, enum doctor_state state,
                                const char *fmt, ...) PRINTF(4, 5);
void doctor_remedy(struct doctor_check *c, const char *fmt, ...) PRINTF(2, 3);
void doctor_fact_i64(struct doctor_check *c, const char *key, int64_t v);
void doctor_fact_str(struct doctor_check *c, const char *key, const char *v); /* NULL: null */
void doctor_fact_bool(struct doctor_check *c, const char *key, bool v);
void doctor_init(struct doctor *d);
void doctor_fini(struct doctor *d);

enum doctor_state doctor_worst(const struct doctor *d);
void doctor_text(const struct doctor *d, bool colour, struct buf *out);
void doctor_json(const struct doctor *d, struct buf *out);

/* ---- the parts, in the order they run ---- */

/* The data directory and its file system, the database, who runs on it. Makes `scratch`. */
void doctor_data(struct doctor *d);
/* Addresses, clock, limits of the server, programs. */
void doctor_host(struct doctor *d);
/* Starts a sandbox as the server would and runs a call in it. */
void doctor_sandbox(struct doctor *d);
/* Providers and the model that is used when none is named; with --probe their addresses. */
void doctor_model(struct doctor *d);
/* Last: how both clocks went meanwhile. */
void doctor_clock(struct doctor *d);

/* A URL without what may be a secret in it: user, password, query. */
void doctor_url(char *out, size_t cap, const char *url);

#endif
