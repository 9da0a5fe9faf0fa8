#include "cli/apikey.h"

#include "api/api.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/rand.h"
#include "cli/config.h"
#include "io/loop.h"

#include <stdio.h>
#include <unistd.h>

enum { KEY_RANDOM = 24, KEYS_ARENA = 16 * 1024 * 1024 };

struct apikey apikey_new(void)
{
    unsigned char raw[KEY_RANDOM];
    rand_fill(raw, sizeof raw);
    struct apikey key = {"sk-ostler-"};
    size_t len = strlen(key.z);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(key.z + len + 2 * i, 3, "%02x", raw[i]);
    return key;
}

/* ---- one job at a time, waited for ---- */

struct waited {
    struct store_job job;
    struct store_job *inner;
    struct loop *loop;
    struct loop_timer alive; /* waiting for another thread alone would let the loop end */
    struct err *err;
    bool done, closed;
};

static int run_inner(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct waited *w = CONTAINER_OF(job, struct waited, job);
    return w->inner->fn(tx, w->inner, err);
}

static void job_done(struct store_job *job, const struct err *err)
{
    struct waited *w = CONTAINER_OF(job, struct waited, job);
    *w->err = *err;
    w->done = true;
    loop_stop(w->loop);
}

static void still_alive(struct loop_timer *t)
{
    loop_timer_start(t, LIMIT_SHUTDOWN_MS, still_alive);
}

static void alive_closed(struct loop_timer *t)
{
    struct waited *w = CONTAINER_OF(t, struct waited, alive);
    w->closed = true;
    loop_stop(w->loop);
}

int apikey_job(struct loop *l, struct store *s, struct store_job *job, bool write, struct err *err)
{
    struct err result = {0};
    struct waited w = {.inner = job, .loop = l, .err = &result};
    w.job.fn = run_inner;
    w.job.done = job_done;
    struct store_port port = store_port(s);
    (write ? port.write : port.read)(port.self, &w.job);
    loop_timer_init(l, &w.alive);
    still_alive(&w.alive);
    while (!w.done)
        loop_run(l);
    loop_timer_close(&w.alive, alive_closed);
    while (!w.closed)
        loop_run(l);
    if (result.code && err)
        *err = result;
    return result.code;
}

/* ---- adding ---- */

struct add_job {
    struct store_job job;
    struct str workspace, name;
    unsigned char hash[32];
    struct id id;
};

static int add_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct add_job *a = CONTAINER_OF(job, struct add_job, job);
    int64_t now_us = clock_unix_us();
    struct key_row row = {.id = a->id, .name = a->name, .created_us = now_us};
    int rc = tx_workspace_ensure(tx, a->workspace, now_us, &row.workspace_id, err);
    return rc ? rc : tx_key_add(tx, &row, a->hash, err);
}

int apikey_add(struct loop *l, struct store *s, struct str workspace, struct str name,
               const struct apikey *key, struct id *out_id, struct err *err)
{
    struct add_job a = {.workspace = workspace, .name = name, .id = id_new("apikey")};
    a.job.fn = add_fn;
    api_hash_key(str_z(key->z), a.hash);
    int rc = apikey_job(l, s, &a.job, true, err);
    if (rc == 0)
        *out_id = a.id;
    return rc;
}

/* ---- seeding ---- */

struct look_job {
    struct store_job job;
    unsigned char hash[32];
    bool compare, any, known;
};

static int look_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct look_job *k = CONTAINER_OF(job, struct look_job, job);
    AUTO_ARENA struct arena a;
    arena_init(&a, KEYS_ARENA);
    struct key_row *rows, row;
    size_t n;
    int rc = tx_key_list(tx, &a, &rows, &n, err);
    if (rc)
        return rc;
    k->any = n > 0;
    if (!k->compare)
        return 0;
    rc = tx_key_find(tx, k->hash, &a, &row, err);
    k->known = rc == 0;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int key_file(const char *data, char *out, size_t cap, struct err *err)
{
    if (snprintf(out, cap, "%s/api-key", data) >= (int)cap)
        return err_at(err, ERR_INVALID, "--data", "the data directory's path is too long");
    return 0;
}

static int make_one(struct loop *l, struct store *s, const char *data, struct err *err)
{
    char path[4096], text[APIKEY_MAX + 1];
    struct apikey key = apikey_new();
    struct id id;
    int rc = key_file(data, path, sizeof path, err);
    if (rc)
        return rc;
    /* The file first: a key that is stored but was never written down could not be had again. */
    snprintf(text, sizeof text, "%s\n", key.z);
    rc = fd_write_file_atomic(path, str_z(text), 0600, err);
    if (rc)
        return rc;
    return apikey_add(l, s, STR(APIKEY_DEFAULT_WORKSPACE), STR("first start"), &key, &id, err);
}

static int from_env(struct loop *l, struct store *s, const char *env, struct err *err)
{
    struct apikey key;
    struct id id;
    if (strlen(env) < 8 || !str_copyz(key.z, sizeof key.z, str_z(env)))
        return err_at(err, ERR_INVALID, "OSTLER_API_KEY",
                      "OSTLER_API_KEY must have 8 to %d characters", APIKEY_MAX - 1);
    return apikey_add(l, s, STR(APIKEY_DEFAULT_WORKSPACE), STR("OSTLER_API_KEY"), &key, &id, err);
}

int apikey_seed(struct loop *l, struct store *s, const char *data, enum apikey_seed *out,
                struct err *err)
{
    const char *env = config_env("OSTLER_API_KEY");
    struct look_job look = {.compare = env != NULL};
    look.job.fn = look_fn;
    if (env)
        api_hash_key(str_z(env), look.hash);
    int rc = apikey_job(l, s, &look.job, false, err);
    if (rc)
        return rc;
    if (look.any) {
        *out = env && !look.known ? APIKEY_UNKNOWN_ENV : APIKEY_KEPT;
        return 0;
    }
    rc = env ? from_env(l, s, env, err) : make_one(l, s, data, err);
    if (rc == 0)
        *out = env ? APIKEY_FROM_ENV : APIKEY_MADE;
    return rc;
}

int apikey_find(const char *data, struct apikey *out, struct err *err)
{
    const char *env = config_env("OSTLER_API_KEY");
    if (env) {
        if (!str_copyz(out->z, sizeof out->z, str_z(env)))
            return err_at(err, ERR_INVALID, "OSTLER_API_KEY", "OSTLER_API_KEY is too long");
        return 0;
    }
    char path[4096];
    AUTO_BUF struct buf text = BUF_INIT(4096);
    struct err read_err;
    if (data && key_file(data, path, sizeof path, &read_err) == 0 &&
        fd_read_file(path, &text, &read_err) == 0) {
        struct str key = str_trim(buf_view(&text));
        if (key.len && str_copyz(out->z, sizeof out->z, key))
            return 0;
        return err_at(err, ERR_AUTH, path, "%s holds no API key", path);
    }
    return err_at(err, ERR_AUTH, "OSTLER_API_KEY",
                  "no API key: set OSTLER_API_KEY, or make one with `ostler keys create`");
}
