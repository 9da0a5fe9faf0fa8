/* store_fixture: a temporary data directory, a transaction without threads, and jobs run through
 * the port to their end. For tests of the store only; main thread.
 */
#ifndef OSTLER_TESTS_STORE_FIXTURE_H
#define OSTLER_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/loop.h"
#include "store/store.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define assert_str(s, lit) assert_true(str_eqz((s), (lit)))

/* ---- directories ---- */

static inline int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void fixture_rmtree(const char *dir)
{
    nftw(dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fixture_mkdtemp(char out[64])
{
    snprintf(out, 64, "/tmp/ostler-test-XXXXXX");
    assert_non_null(mkdtemp(out));
}

/* ---- the store behind its port ---- */

enum { FIXTURE_PATIENCE_MS = 120 * 1000 };

struct fixture {
    struct loop *loop;
    struct loop_timer patience; /* keeps the loop alive, and ends a test that hangs */
    struct store *store;
    struct store_port port;
    int pending;
};

struct call {
    struct store_job job;
    struct fixture *fx;
    int (*fn)(struct store_tx *tx, void *arg, struct err *err);
    void *arg;
    struct err err;
    int calls;
};

static inline void fixture_hangs(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test waits for a job that never ends\n");
    abort();
}

static inline void fixture_loop(struct fixture *fx)
{
    *fx = (struct fixture){.loop = loop_new()};
    loop_timer_init(fx->loop, &fx->patience);
    loop_timer_start(&fx->patience, FIXTURE_PATIENCE_MS, fixture_hangs);
}

static inline int fixture_try_open(struct fixture *fx, const char *dir, struct err *err)
{
    struct store_config cfg = {.dir = dir};
    int rc = store_open(fx->loop, &cfg, &fx->store, err);
    if (rc == 0)
        fx->port = store_port(fx->store);
    return rc;
}

static inline void fixture_open(struct fixture *fx, const char *dir)
{
    struct err err = {0};
    fixture_loop(fx);
    if (fixture_try_open(fx, dir, &err) != 0)
        fail_msg("%s", err.msg);
}

static inline void fixture_close(struct fixture *fx)
{
    if (fx->store)
        store_close(fx->store);
    loop_timer_close(&fx->patience, NULL);
    loop_free(fx->loop);
    *fx = (struct fixture){0};
}

static inline int fixture_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    return c->fn(tx, c->arg, err);
}

static inline void fixture_done(struct store_job *job, const struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    c->err = *err;
    c->calls++;
    if (--c->fx->pending == 0)
        loop_stop(c->fx->loop);
}

static inline void call_init(struct call *c, struct fixture *fx,
                             int (*fn)(struct store_tx *, void *, struct err *), void *arg)
{
    *c = (struct call){
        .job = {.fn = fixture_fn, .done = fixture_done}, .fx = fx, .fn = fn, .arg = arg};
}

static inline void call_write(struct call *c)
{
    c->fx->pending++;
    c->fx->port.write(c->fx->port.self, &c->job);
}

static inline void call_read(struct call *c)
{
    c->fx->pending++;
    c->fx->port.read(c->fx->port.self, &c->job);
}

static inline void fixture_wait(struct fixture *fx)
{
    while (fx->pending)
        loop_run(fx->loop);
}

static inline struct err
fixture_write(struct fixture *fx, int (*fn)(struct store_tx *, void *, struct err *), void *arg)
{
    struct call c;
    call_init(&c, fx, fn, arg);
    call_write(&c);
    fixture_wait(fx);
    return c.err;
}

static inline struct err fixture_read(struct fixture *fx,
                                      int (*fn)(struct store_tx *, void *, struct err *), void *arg)
{
    struct call c;
    call_init(&c, fx, fn, arg);
    call_read(&c);
    fixture_wait(fx);
    return c.err;
}

/* ---- small jobs ---- */

struct meta_job {
    char key[32];
    char value[32];
    bool found;
};

static inline int meta_put(struct store_tx *tx, void *arg, struct err *err)
{
    struct meta_job *m = arg;
    return tx_meta_put(tx, m->key, str_z(m->value), err);
}

static inline int meta_get(struct store_tx *tx, void *arg, struct err *err)
{
    struct meta_job *m = arg;
    struct arena a;
    arena_init(&a, 4096);
    struct str v = STR_NONE;
    int rc = tx_meta_get(tx, m->key, &a, &v, err);
    if (rc == 0) {
        m->found = str_some(v);
        str_copyz(m->value, sizeof m->value, v);
    }
    arena_fini(&a);
    return rc;
}

#endif
