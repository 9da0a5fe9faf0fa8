/* seed: fills a data directory with copies of one session, through the store and without a server.
 *
 *   seed DATA SESSION_ID N
 *
 * Each copy has its own ids and rows: the head, both snapshots, the thread and the whole log.
 */
#include "samples.h"

#include "base/clock.h"
#include "base/limits.h"
#include "io/loop.h"
#include "store/store.h"

enum { PER_JOB = 500 };

struct seed {
    struct loop *loop;
    struct store_port port;
    struct store_job job;
    struct str template_id;
    struct arena arena;
    struct session_row row;
    struct event *events;
    size_t nevents;
    int64_t left, created_us;
    struct err err;
};

static int read_template(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct seed *s = CONTAINER_OF(job, struct seed, job);
    struct event_filter all = {.transcript = true};
    bool more;
    int rc = tx_session_get(tx, STR_NONE, s->template_id, &s->arena, &s->row, err);
    if (rc == 0)
        rc = tx_event_list(tx, s->row.key, &all, &s->arena, &s->events, &s->nevents, &more, err);
    return rc;
}

static int add_one(struct store_tx *tx, const struct seed *s, int64_t created_us, struct err *err)
{
    struct session_row row = s->row;
    row.id = id_new("sesn");
    row.thread_id = id_new("sthr");
    row.created_us = row.updated_us = created_us;
    row.last_seq = 0;
    int rc = tx_session_insert(tx, &row, err);
    if (rc || s->nevents == 0)
        return rc;
    const struct session_append ap = {
        .key = row.key,
        .epoch = row.epoch,
        .events = s->events,
        .nevents = s->nevents,
        .set_status = true,
        .status = row.status,
        .stop_reason = row.stop_reason,
        .usage = row.usage,
        .updated_us = created_us,
    };
    return tx_session_append(tx, &ap, err);
}

static int add_some(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct seed *s = CONTAINER_OF(job, struct seed, job);
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < PER_JOB && i < s->left; i++)
        rc = add_one(tx, s, s->created_us + i, err);
    return rc;
}

static void next(struct seed *s);

static void done(struct store_job *job, const struct err *err)
{
    struct seed *s = CONTAINER_OF(job, struct seed, job);
    s->err = *err;
    if (job->fn == add_some) {
        s->left -= PER_JOB;
        s->created_us += PER_JOB;
    }
    if (err->code || s->left <= 0)
        loop_stop(s->loop);
    else
        next(s);
}

static void next(struct seed *s)
{
    s->job = (struct store_job){.fn = s->row.key ? add_some : read_template, .done = done};
    (s->row.key ? s->port.write : s->port.read)(s->port.self, &s->job);
}

static void keep_alive(struct loop_timer *t)
{
    (void)t;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        die("usage: seed DATA SESSION_ID N");
    struct seed s = {.loop = loop_new(),
                     .template_id = str_z(argv[2]),
                     .left = number(argv[3], 1, 10000000),
                     .created_us = clock_unix_us()};
    const struct store_config cfg = {.dir = argv[1], .no_fsync = true};
    struct store *store;
    struct loop_timer timer;
    arena_init(&s.arena, LIMIT_JSON_ARENA);
    if (store_open(s.loop, &cfg, &store, &s.err))
        die("%s", s.err.msg);
    s.port = store_port(store);
    loop_timer_init(s.loop, &timer);
    loop_timer_start(&timer, INT32_MAX, keep_alive);
    next(&s);
    loop_run(s.loop);
    if (s.err.code)
        die("%s", s.err.msg);
    store_close(store);
    return 0;
}
