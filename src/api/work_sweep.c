/* The sweep: once a second, whether a lease ran out or a session still has to be told of trouble
 * with its worker. A look costs a read of two small indexes; what is found is taken back in one
 * transaction, and said in the sessions' logs before it is forgotten.
 *
 *     (timer) --> look --> take back, wake pollers --> tell one after another --> forget -->
 * (timer)
 */
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

enum { SWEEP_ROWS = 100, SWEEP_ARENA = 1024 * 1024 };

struct work_sweep {
    struct work_service *w;
    struct store_job job;
    struct arena arena;
    bool due;
    struct id environments[SWEEP_ROWS];
    size_t nenvironments;
    struct work_trouble_row *troubles;
    size_t ntroubles, at;
    bool told[SWEEP_ROWS];
    struct engine_op op;
};

static void next_look(struct loop_timer *t);

static void check_closed(struct work_service *w)
{
    if (!w->closing || !w->timer_closed || w->sweep)
        return;
    struct api *api = w->api;
    void (*closed)(struct api *) = w->closed;
    api->work = NULL;
    mem_free(w);
    closed(api);
}

static void end(struct work_sweep *s)
{
    struct work_service *w = s->w;
    arena_fini(&s->arena);
    mem_free(s);
    w->sweep = NULL;
    if (!w->closing)
        loop_timer_start(&w->timer, WORK_SWEEP_MS, next_look);
    check_closed(w);
}

static void submit(struct work_sweep *s, bool write,
                   int (*fn)(struct store_tx *, struct store_job *, struct err *),
                   void (*done)(struct store_job *, const struct err *))
{
    const struct store_port *p = &s->w->api->cfg.store;
    s->job = (struct store_job){.fn = fn, .done = done};
    (write ? p->write : p->read)(p->self, &s->job);
}

static bool failed(const struct work_sweep *s, const struct err *err)
{
    if (err->code && err->code != ERR_CANCELED && !s->w->closing)
        log_err(LOG_WARN, "work of self-hosted environments could not be looked after", err);
    return err->code != 0;
}

/* ---- telling ---- */

static int told_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->ntroubles; i++)
        if (s->told[i])
            rc = tx_work_told(tx, &s->troubles[i], err);
    return rc;
}

static void told_done(struct store_job *job, const struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    (void)failed(s, err);
    end(s);
}

static void tell_next(struct work_sweep *s);

/* Where another process works on the session, that one tells it. */
static void was_told(struct engine_op *op, const struct session_row *row, const struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(op, struct work_sweep, op);
    const struct work_trouble_row *t = &s->troubles[s->at];
    (void)row;
    s->told[s->at++] = err->code == 0 || err->code == ERR_NOT_FOUND;
    if (err->code == 0) {
        struct work_service *w = s->w;
        w->lost += t->trouble == WORK_LOST;
        w->dropped += t->trouble == WORK_DROPPED;
        w->given_up += t->trouble == WORK_GIVEN_UP;
        log_line(LOG_WARN, "a self-hosted worker left calls unanswered", "session", t->session_id.z,
                 "work", t->id.z, "queued_again", t->trouble == WORK_GIVEN_UP ? "no" : "yes", NULL);
    }
    tell_next(s);
}

static const char *say(enum work_trouble trouble)
{
    switch (trouble) {
    case WORK_LOST:
        return "The worker of this session's self-hosted environment was not heard of until its "
               "lease ran out; the session is back in the queue for another worker";
    case WORK_DROPPED:
        return "The worker of this session's self-hosted environment stopped while calls wait for "
               "an answer; the session is back in the queue";
    case WORK_GIVEN_UP:
        return "Workers of this session's self-hosted environment ended three times in a row "
               "without answering a call; send user.interrupt or a message to queue it again";
    case WORK_FINE: break;
    }
    return "";
}

static void tell_next(struct work_sweep *s)
{
    if (s->at == s->ntroubles || s->w->closing) {
        if (s->ntroubles)
            submit(s, true, told_fn, told_done);
        else
            end(s);
        return;
    }
    const struct work_trouble_row *t = &s->troubles[s->at];
    const struct sandbox_notice notice = {
        .type = "unknown_error",
        .message = str_z(say(t->trouble)),
        .repository_url = STR_NONE,
        .retry = t->trouble == WORK_GIVEN_UP ? "exhausted" : "retrying",
    };
    s->op.done = was_told;
    engine_session_notice(s->w->api->cfg.engine, id_str(&t->session_id), &notice, &s->op);
}

/* ---- taking back ---- */

static int sweep_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    int64_t now_us = clock_unix_us();
    arena_reset(&s->arena);
    int rc = tx_work_sweep(tx, now_us, now_us - WORK_KEPT_DAYS * INT64_C(86400000000),
                           s->environments, SWEEP_ROWS, &s->nenvironments, err);
    return rc ? rc : tx_work_troubles(tx, SWEEP_ROWS, &s->arena, &s->troubles, &s->ntroubles, err);
}

static void sweep_done(struct store_job *job, const struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    if (failed(s, err)) {
        end(s);
        return;
    }
    for (size_t i = 0; i < s->nenvironments; i++)
        work_wake(s->w->api, id_str(&s->environments[i]));
    tell_next(s);
}

static int due_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    return tx_work_due(tx, clock_unix_us(), &s->due, err);
}

static void due_done(struct store_job *job, const struct err *err)
{
    struct work_sweep *s = CONTAINER_OF(job, struct work_sweep, job);
    if (failed(s, err) || !s->due || s->w->closing)
        end(s);
    else
        submit(s, true, sweep_fn, sweep_done);
}

static void next_look(struct loop_timer *t)
{
    struct work_service *w = CONTAINER_OF(t, struct work_service, timer);
    struct work_sweep *s = mem_zalloc(sizeof *s);
    s->w = w;
    w->sweep = s;
    arena_init(&s->arena, SWEEP_ARENA);
    submit(s, false, due_fn, due_done);
}

/* ---- life ---- */

void work_open(struct api *api)
{
    struct work_service *w = mem_zalloc(sizeof *w);
    w->api = api;
    list_init(&w->pollers);
    loop_timer_init(api->cfg.loop, &w->timer);
    loop_timer_start(&w->timer, WORK_SWEEP_MS, next_look);
    api->work = w;
}

static void timer_closed(struct loop_timer *t)
{
    struct work_service *w = CONTAINER_OF(t, struct work_service, timer);
    w->timer_closed = true;
    check_closed(w);
}

void work_close(struct api *api, void (*closed)(struct api *api))
{
    struct work_service *w = api->work;
    w->closing = true;
    w->closed = closed;
    work_poll_end_all(w);
    loop_timer_close(&w->timer, timer_closed);
}
