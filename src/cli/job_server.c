/* The server of a job: the one that is named, the one that owns the data directory, or our own. */
#include "cli/job.h"

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/lock.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

enum { RESTARTS_MAX = 5, OWNER_WAIT_MS = 5000, OWNER_POLL_MS = 50 };

static void died(struct child *c, int wait_status)
{
    struct job *j = c->arg;
    j->child_died = true;
    j->child_status = wait_status;
}

/* A server that is just starting holds the lock but does not listen yet. */
static void look_for_owner(const char *data, struct lock_owner *owner)
{
    for (int waited = 0; waited < OWNER_WAIT_MS; waited += OWNER_POLL_MS) {
        lock_look(data, owner);
        if (!owner->pid || owner->url[0])
            return;
        if (poll(NULL, 0, OWNER_POLL_MS) < 0)
            return;
    }
}

static int start_own(struct job *j, struct err *err)
{
    child_init(&j->child, j->loop, j->opt.data);
    j->child.died = died;
    j->child.arg = j;
    j->own = true;
    int rc = child_start(&j->child, err);
    if (rc) {
        j->child.died = NULL;
        child_reap(&j->child);
        j->own = false;
        struct err why = *err;
        /* Whatever stood in the way: there is no server. */
        err_set(err, ERR_CONNECT, "%s%s", why.msg, cli_remedy(&why));
    }
    return rc ? err->code : 0;
}

static void take_default_model(struct job *j)
{
    struct lock_owner owner;
    lock_look(j->opt.data, &owner);
    if (!j->opt.model)
        str_copyz(j->model, sizeof j->model, str_z(owner.model));
}

int job_connect(struct job *j, struct err *err)
{
    const char *url = j->opt.server ? j->opt.server : config_env("OSTLER_BASE_URL");
    struct lock_owner owner = {0};
    bool local = true;
    if (j->opt.own_only)
        url = NULL;
    if (url) {
        local = lock_url_is_local(url);
    } else {
        look_for_owner(j->opt.data, &owner);
        if (owner.pid && !owner.url[0])
            return err_set(err, ERR_CONNECT,
                           "process %d holds the data directory %s but does not listen; stop it, "
                           "or choose another with --data DIR",
                           owner.pid, j->opt.data);
        int rc = owner.pid ? 0 : start_own(j, err);
        if (rc)
            return rc;
        url = owner.pid ? owner.url : j->child.url;
    }
    take_default_model(j);
    /* The key of this host's server goes to this host's servers only. */
    return client_open_found(&j->client, j->loop, url, local ? j->opt.data : NULL, err);
}

static void describe_death(int status, char *out, size_t cap)
{
    if (WIFSIGNALED(status))
        snprintf(out, cap, "was killed by signal %d (%s)", WTERMSIG(status),
                 WTERMSIG(status) == SIGKILL ? "SIGKILL" : strsignal(WTERMSIG(status)));
    else
        snprintf(out, cap, "ended with status %d", WEXITSTATUS(status));
}

static void pause_over(struct loop_timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, pause);
    j->restart_delay_ms = -1;
    loop_stop(j->loop);
}

/* Lets the viewer read what happened; 0 in ordinary runs. */
static void pause_before_restart(struct job *j)
{
    int64_t delay_ms = j->restart_delay_ms;
    if (delay_ms <= 0)
        return;
    loop_timer_start(&j->pause, delay_ms, pause_over);
    while (j->restart_delay_ms > 0 && !j->client.interrupted && j->end == JOB_RUNNING)
        loop_run(j->loop);
    loop_timer_stop(&j->pause);
    j->restart_delay_ms = delay_ms;
}

int job_revive(struct job *j, struct err *err)
{
    if (!j->own || !j->child_died)
        return 0;
    char what[96];
    describe_death(j->child_status, what, sizeof what);
    j->child_died = false;
    child_reap(&j->child);
    if (!j->opt.json)
        transcript_note(&j->transcript, TERM_YELLOW, "! the server (process %d) %s", j->child.pid,
                        what);
    job_flush(j);
    if (++j->restarts > RESTARTS_MAX)
        return err_set(err, ERR_CONNECT, "the server died %d times; see %s/server.log", j->restarts,
                       j->opt.data);
    pause_before_restart(j);
    int rc = child_start(&j->child, err);
    if (rc)
        return rc;
    if (!j->opt.json)
        transcript_note(&j->transcript, TERM_YELLOW,
                        "! started it again on the same data: process %d", j->child.pid);
    job_flush(j);
    if (j->stream_open)
        follow_poke(&j->follow);
    return 0;
}

int job_send(struct job *j, const struct client_request *r, struct buf *out, struct err *err)
{
    for (;;) {
        int rc = client_send(&j->client, r, out, err);
        if (rc != ERR_CONNECT || !j->own || !j->child_died)
            return rc;
        rc = job_revive(j, err);
        if (rc)
            return rc;
    }
}

int job_json(struct job *j, const char *method, const char *path, struct str body, struct arena *a,
             const struct json **out, struct err *err)
{
    struct id id = id_new("cli");
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024 * 1024);
    struct client_request r = {
        .method = method, .path = path, .body = body, .idempotency_key = id.z, .out_fd = -1};
    int rc = job_send(j, &r, &text, err);
    if (rc)
        return rc;
    struct str kept = arena_str(a, buf_view(&text));
    if (!str_some(kept))
        return err_set(err, ERR_TOO_LARGE, "the server's answer is too long");
    rc = json_parse(a, kept, JSON_ALLOW_DUPLICATES, out, err);
    return rc ? err_wrap(err, "%s is not an ostler server", j->client.base) : 0;
}
