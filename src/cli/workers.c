#include "cli/workers.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/proc.h"
#include "http/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* One that ends sooner after its start than YOUNG_MS is started again only after a pause. */
enum { YOUNG_MS = 5000, PAUSE_MS = 1000, MARGIN_MS = 1000 };

struct worker {
    struct workers *all;
    struct loop_child child;
    struct loop_timer again;
    bool running;
    int64_t started_ms;
};

struct workers {
    const struct workers_config *cfg;
    struct loop *loop;
    struct loop_timer deadline;
    struct worker *list;
    const char **argv;
    char self[4096];
    int listen_fd, ready_fd;
    size_t open; /* children and handles that still call back */
    bool stopping, steady;
    int code;
};

static void start(struct worker *w);

/* ---- stopping ---- */

static void kill_all(struct workers *all, int sig)
{
    for (int i = 0; i < all->cfg->n; i++)
        if (all->list[i].running)
            (void)loop_child_kill(&all->list[i].child, sig);
}

static void too_slow(struct loop_timer *t)
{
    kill_all(CONTAINER_OF(t, struct workers, deadline), SIGKILL);
}

static void stop(struct workers *all, int code)
{
    if (all->stopping)
        return;
    all->stopping = true;
    all->code = code;
    loop_timer_start(&all->deadline, LIMIT_SHUTDOWN_MS + MARGIN_MS, too_slow);
    kill_all(all, SIGTERM);
    loop_stop(all->loop);
}

static void on_signal(void *arg, int signum)
{
    struct workers *all = arg;
    (void)signum;
    if (all->stopping)
        kill_all(all, SIGKILL); /* the second one: at once, as safe as a crash */
    stop(all, CLI_OK);
}

/* ---- one worker ---- */

static void start_again(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, again);
    if (!w->all->stopping)
        start(w);
}

static void child_closed(struct loop_child *c)
{
    struct worker *w = CONTAINER_OF(c, struct worker, child);
    struct workers *all = w->all;
    bool young = loop_now_ms(all->loop) - w->started_ms < YOUNG_MS;
    all->open--;
    if (all->stopping)
        loop_stop(all->loop);
    else
        loop_timer_start(&w->again, young ? PAUSE_MS : 0, start_again);
}

static void on_exit_of(struct loop_child *c, int status)
{
    struct worker *w = CONTAINER_OF(c, struct worker, child);
    struct workers *all = w->all;
    char pid[16], how[32];
    w->running = false;
    all->steady = all->steady || loop_now_ms(all->loop) - w->started_ms >= YOUNG_MS;
    loop_child_close(c, child_closed);
    if (all->stopping)
        return;
    snprintf(pid, sizeof pid, "%d", c->pid);
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "status %d", WEXITSTATUS(status));
    log_line(LOG_WARN, "a worker ended", "pid", pid, "by", how, NULL);
    /* What keeps the first ones from starting keeps all: it has said why. */
    if (!all->steady && WIFEXITED(status) && WEXITSTATUS(status) != CLI_OK)
        stop(all, WEXITSTATUS(status));
}

static void start(struct worker *w)
{
    struct workers *all = w->all;
    const int fds[] = {-1, STDOUT_FILENO, STDERR_FILENO, all->listen_fd, all->ready_fd};
    const struct loop_spawn how = {
        .file = all->self, .argv = all->argv, .fds = fds, .nfds = COUNT_OF(fds)};
    struct err err;
    w->started_ms = loop_now_ms(all->loop);
    if (loop_spawn(all->loop, &w->child, &how, on_exit_of, &err)) {
        log_err(LOG_ERROR, "cannot start a worker", &err);
        loop_timer_start(&w->again, PAUSE_MS, start_again);
        return;
    }
    w->running = true;
    all->open++;
    fd_close(TAKE_FD(all->ready_fd)); /* the first one tells */
}

/* ---- all of them ---- */

/* The flags of this process but --workers and --ready-fd, and the descriptors. */
static void make_argv(struct workers *all)
{
    static const char *const ours[] = {"--workers", "--ready-fd"};
    const struct workers_config *cfg = all->cfg;
    size_t n = 0;
    all->argv = mem_zalloc(((size_t)cfg->argc + 8) * sizeof *all->argv);
    all->argv[n++] = all->self;
    all->argv[n++] = "serve";
    for (int i = 1; i < cfg->argc; i++) {
        struct str word = str_z(cfg->argv[i]), name = str_split(&word, '=');
        bool skip = false;
        for (size_t k = 0; k < COUNT_OF(ours); k++)
            skip = skip || str_eqz(name, ours[k]);
        if (!skip)
            all->argv[n++] = cfg->argv[i];
        else if (!str_some(word))
            i++; /* its value is the next word */
    }
    all->argv[n++] = "--listen-fd";
    all->argv[n++] = "3";
    if (all->ready_fd >= 0) {
        all->argv[n++] = "--ready-fd";
        all->argv[n++] = "4";
    }
}

static void deadline_closed(struct loop_timer *t)
{
    struct workers *all = CONTAINER_OF(t, struct workers, deadline);
    all->open--;
    loop_stop(all->loop);
}

static void again_closed(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, again);
    w->all->open--;
    loop_stop(w->all->loop);
}

static void close_all(struct workers *all)
{
    while (all->open)
        loop_run(all->loop);
    all->open = 1 + (size_t)all->cfg->n;
    loop_timer_close(&all->deadline, deadline_closed);
    for (int i = 0; i < all->cfg->n; i++)
        loop_timer_close(&all->list[i].again, again_closed);
    while (all->open)
        loop_run(all->loop);
    loop_free(all->loop);
    fd_close(all->listen_fd);
    mem_free(all->list);
    mem_free(all->argv);
}

int workers_run(const struct workers_config *cfg)
{
    struct workers all = {.cfg = cfg, .listen_fd = -1, .ready_fd = cfg->ready_fd};
    struct err err;
    if (proc_self(all.self, &err) || http_listen(cfg->host, cfg->port, &all.listen_fd, &err))
        return cli_fail(CLI_SERVER, "serve", "%s%s", err.msg, cli_remedy(&err));
    make_argv(&all);
    all.loop = loop_new();
    all.list = mem_zalloc((size_t)cfg->n * sizeof *all.list);
    loop_timer_init(all.loop, &all.deadline);
    loop_timer_start(&all.deadline, INT32_MAX, too_slow); /* keeps the loop alive */
    if (loop_on_signal(all.loop, SIGTERM, on_signal, &all) ||
        loop_on_signal(all.loop, SIGINT, on_signal, &all))
        log_line(LOG_WARN, "cannot watch for signals", NULL);
    for (int i = 0; i < cfg->n; i++) {
        all.list[i].all = &all;
        loop_timer_init(all.loop, &all.list[i].again);
        start(&all.list[i]);
    }
    while (!all.stopping)
        loop_run(all.loop);
    close_all(&all);
    return all.code;
}

void workers_follow(void)
{
    /* The signal of our own polite end; if that process is gone already, nobody sends it. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == 1)
        (void)raise(SIGTERM);
}
