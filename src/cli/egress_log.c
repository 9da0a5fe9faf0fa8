#include "cli/egress_log.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/egress.h"

#include <stdio.h>

struct egress_log_row {
    struct id session, tool_use;
    char host[256], address[64];
    struct egress_row row;
};

void egress_log_init(struct egress_log *l, struct store_port store)
{
    *l = (struct egress_log){.store = store};
}

static void submit(struct egress_log *l);

/* On a store thread. */
static int write_rows(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct egress_log *l = CONTAINER_OF(job, struct egress_log, job);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < l->nwriting; i++)
        rc = tx_egress_insert(tx, id_str(&l->writing[i].session), &l->writing[i].row, err);
    return rc;
}

static void written(struct store_job *job, const struct err *err)
{
    struct egress_log *l = CONTAINER_OF(job, struct egress_log, job);
    if (err->code)
        log_err(LOG_WARN, "connections of sandboxes were not recorded", err);
    mem_free(TAKE_PTR(l->writing));
    l->nwriting = 0;
    l->busy = false;
    if (l->dropped) {
        char n[32];
        snprintf(n, sizeof n, "%zu", l->dropped);
        log_line(LOG_WARN, "sandboxes connect faster than it can be recorded", "left_out", n, NULL);
        l->dropped = 0;
    }
    if (l->nwaiting && err->code != ERR_CANCELED)
        submit(l);
}

static void submit(struct egress_log *l)
{
    l->writing = TAKE_PTR(l->waiting);
    l->nwriting = l->nwaiting;
    l->nwaiting = l->cap = 0;
    l->busy = true;
    /* The texts stand in the rows, which do not move any more. */
    for (size_t i = 0; i < l->nwriting; i++) {
        struct egress_log_row *r = &l->writing[i];
        r->row.host = str_z(r->host);
        r->row.address = r->address[0] ? str_z(r->address) : STR_NONE;
        r->row.tool_use = r->tool_use.z[0] ? id_str(&r->tool_use) : STR_NONE;
    }
    l->job = (struct store_job){.fn = write_rows, .done = written};
    l->store.write(l->store.self, &l->job);
}

void egress_log_add(void *arg, const struct sandbox_egress *e)
{
    struct egress_log *l = arg;
    const struct egress_decision *d = e->decision;
    if (l->nwaiting == LIMIT_EGRESS_WAITING) {
        l->dropped++;
        return;
    }
    if (l->nwaiting == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->waiting = mem_realloc(l->waiting, l->cap * sizeof *l->waiting);
    }
    struct egress_log_row *r = &l->waiting[l->nwaiting++];
    bool allowed = d->reason == EGRESS_ALLOWED;
    *r = (struct egress_log_row){
        .session = id_from(d->session),
        .row = {.at_us = d->started_us,
                .duration_us = d->duration_us,
                .connect = d->connect,
                .port = d->port,
                .outcome = allowed                           ? EGRESS_OUT_ALLOWED
                           : egress_reason_denied(d->reason) ? EGRESS_OUT_DENIED
                                                             : EGRESS_OUT_FAILED,
                .reason = allowed ? STR_NONE : str_z(egress_reason_name(d->reason)),
                .bytes_up = (int64_t)d->bytes_up,
                .bytes_down = (int64_t)d->bytes_down}};
    (void)str_copyz(r->host, sizeof r->host, str_take(d->host, sizeof r->host - 1));
    (void)str_copyz(r->address, sizeof r->address, d->address);
    if (str_some(e->tool_use_id))
        r->tool_use = id_from(e->tool_use_id);
    if (!l->busy)
        submit(l);
}

void egress_log_fini(struct egress_log *l)
{
    mem_free(TAKE_PTR(l->waiting));
    mem_free(TAKE_PTR(l->writing));
}
