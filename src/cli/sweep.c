#include "cli/sweep.h"

#include "base/log.h"

#include <dirent.h>

static void keep(struct sweep *s, struct str id)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->keep = mem_realloc(s->keep, s->cap * sizeof *s->keep);
    }
    s->keep[s->n++] = id_from(id);
}

/* On a reader thread: the directory is read there, too. */
static int look(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct sweep *s = CONTAINER_OF(job, struct sweep, job);
    s->n = 0;
    DIR *d = opendir(s->dir);
    int rc = 0;
    for (struct dirent *e; d && rc == 0 && (e = readdir(d));) {
        struct str name = str_z(e->d_name);
        if (!id_valid(name, "sesn"))
            continue;
        AUTO_ARENA struct arena a;
        arena_init(&a, 64 * 1024 * 1024);
        struct session_row row;
        rc = tx_session_get(tx, STR_NONE, name, &a, &row, err);
        if (rc == ERR_NOT_FOUND)
            rc = 0;
        else
            keep(s, name);
    }
    if (d)
        closedir(d);
    return rc;
}

static void looked(struct store_job *job, const struct err *err)
{
    struct sweep *s = CONTAINER_OF(job, struct sweep, job);
    /* In doubt nothing is removed. */
    if (err->code)
        log_err(LOG_WARN, "left-over sandboxes were not looked for", err);
    else if (s->sandboxes)
        sandboxes_sweep(s->sandboxes, s->keep, s->n);
    mem_free(TAKE_PTR(s->keep));
}

void sweep_start(struct sweep *s, struct store_port store, struct sandboxes *sandboxes,
                 const char *dir)
{
    *s = (struct sweep){.sandboxes = sandboxes, .dir = dir};
    s->job.fn = look;
    s->job.done = looked;
    store.read(store.self, &s->job);
}

void sweep_cancel(struct sweep *s)
{
    s->sandboxes = NULL;
}
