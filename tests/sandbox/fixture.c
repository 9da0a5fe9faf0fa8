#include "fixture.h"

#include "base/clock.h"
#include "base/fd.h"
#include "json/writer.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *fixture_hand;
bool fixture_unsafe;
bool fixture_stored;
const struct oci_config *fixture_oci;
int64_t fixture_warm;

static void never(struct loop_timer *t)
{
    (void)t;
}

static void stop(void *arg)
{
    struct fixture *f = arg;
    loop_stop(f->loop);
}

static void open_module(struct fixture *f)
{
    struct err err = {.code = 0};
    f->loop = loop_new();
    /* Posts alone do not keep a loop running; in a server something else always does. */
    loop_timer_init(f->loop, &f->alive);
    loop_timer_start(&f->alive, 3600 * 1000, never);
    if (f->stored[0]) {
        const struct store_config how = {.dir = f->stored, .no_fsync = true};
        assert_int_equal(store_open(f->loop, &how, &f->store, &err), 0);
        f->cfg.store = store_port(f->store);
    }
    assert_int_equal(sandboxes_open(f->loop, &f->cfg, &f->s, &err), 0);
    f->port = sandboxes_port(f->s);
    sandboxes_on_probed(f->s, stop, f);
    loop_run(f->loop);
    assert_non_null(sandboxes_tier(f->s));
}

static void close_module(struct fixture *f)
{
    sandboxes_close(f->s, stop, f);
    loop_run(f->loop);
    store_close(f->store);
    f->store = NULL;
    loop_timer_close(&f->alive, NULL);
    loop_run(f->loop);
    loop_free(f->loop);
}

static void begin(struct fixture *f, const char *dir)
{
    *f = (struct fixture){.next = 1};
    snprintf(f->dir, sizeof f->dir, "%s", dir);
    snprintf(f->data, sizeof f->data, "%s/data", f->dir);
    snprintf(f->run, sizeof f->run, "%s/run", f->dir);
    f->cfg = (struct sandbox_config){.dir = f->data, .run_dir = f->run, .hand = fixture_hand};
    f->cfg.unsafe = fixture_unsafe;
    f->cfg.oci = fixture_oci;
    f->cfg.warm = fixture_warm;
    if (fixture_stored) {
        snprintf(f->stored, sizeof f->stored, "%s/stored", f->dir);
        (void)mkdir(f->stored, 0700);
        f->cfg.data = f->stored;
    }
}

void fixture_open(struct fixture *f, const struct sandbox_limits *limits)
{
    char dir[] = "/tmp/ostler-sandbox-XXXXXX";
    assert_non_null(mkdtemp(dir)); /* mode 0700: as root, not to be passed by the sandbox's user */
    begin(f, dir);
    if (limits)
        f->cfg.limits = *limits;
    open_module(f);
}

void fixture_open_at(struct fixture *f, const char *dir)
{
    begin(f, dir);
    open_module(f);
}

void fixture_restart(struct fixture *f)
{
    close_module(f);
    open_module(f);
}

static void remove_tree(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

/* Destroys the sessions that have a directory; how many. */
static size_t destroy_all(struct fixture *f)
{
    DIR *d = opendir(f->data);
    size_t n = 0;
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        f->port.destroy(f->port.self, str_z(e->d_name), true);
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

void fixture_close(struct fixture *f)
{
    /* Nothing that was started outlives the test. */
    for (int i = 0; i < 1000 && destroy_all(f); i++)
        turn(f, 20);
    close_module(f);
    remove_tree(f->dir);
}

void fixture_open_stored(struct fixture *f)
{
    fixture_stored = true;
    fixture_open(f, NULL);
    if (fixture_lacks(f)[0])
        print_message("skipped: %s\n", fixture_lacks(f));
}

const char *fixture_lacks(struct fixture *f)
{
    const struct sandbox_tier *t = sandboxes_tier(f->s);
    return t->ok ? "" : t->reason;
}

/* ---- calls ---- */

static void answered(void *arg, const struct tool_outcome *o)
{
    struct answer *a = arg;
    a->done = true;
    a->is_error = o->is_error;
    a->reason = o->failure_reason;
    buf_str(&a->text, o->content);
    buf_ch(&a->text, '\0');
    a->text.len--;
    if (a->f->waiting)
        loop_stop(a->f->loop);
}

void bash_says(struct fixture *f, const char *session, const char *command, const char *want)
{
    struct answer a;
    bash(f, &a, session, command);
    struct str got = str_trim(buf_view(&a.text));
    if (want[0] == '*' ? str_find(got, str_z(want + 1)) < 0 : !str_eqz(got, want))
        fail_msg("%s\n said: %s\n not:  %s", command, a.text.data, want);
    answer_fini(&a);
}

void call_start(struct fixture *f, struct answer *a, const char *session, const char *id,
                const char *tool, const char *input, struct call_flags flags)
{
    *a = (struct answer){.f = f, .text = BUF_INIT(64 << 20)};
    struct tool_call c = {.session_id = str_z(session),
                          .tool_use_id = str_z(id),
                          .name = str_z(tool),
                          .input = str_z(input),
                          .environment = str_z(f->environment ? f->environment : "{}"),
                          .first_dispatch = !flags.again,
                          .sandbox_existed = flags.existed,
                          .had_sandbox = flags.had};
    f->port.run(f->port.self, &c, answered, a);
    assert_false(a->done);
}

void answer_wait(struct answer *a)
{
    a->f->waiting = true;
    while (!a->done)
        loop_run(a->f->loop);
    a->f->waiting = false;
}

bool answer_within(struct answer *a, int64_t ms)
{
    int64_t until = clock_mono_us() + ms * 1000;
    while (!a->done && clock_mono_us() < until)
        turn(a->f, 5);
    return a->done;
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->text);
}

void call_tool(struct fixture *f, struct answer *a, const char *session, const char *tool,
               const char *input)
{
    char id[32];
    snprintf(id, sizeof id, "sevt_%d", f->next++);
    call_start(f, a, session, id, tool, input, (struct call_flags){.existed = true});
    answer_wait(a);
    f->port.ack(f->port.self, str_z(session), str_z(id));
}

void bash(struct fixture *f, struct answer *a, const char *session, const char *command)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "command", command);
    jw_ki64(&w, "timeout_ms", 30000);
    jw_obj_end(&w);
    call_tool(f, a, session, "bash", b.data);
}

/* ---- waiting ---- */

struct waiter {
    struct loop_timer timer;
    struct fixture *f;
    bool closed;
};

static void timer_fired(struct loop_timer *t)
{
    loop_stop(CONTAINER_OF(t, struct waiter, timer)->f->loop);
}

static void timer_gone(struct loop_timer *t)
{
    struct waiter *w = CONTAINER_OF(t, struct waiter, timer);
    w->closed = true;
    loop_stop(w->f->loop);
}

void turn(struct fixture *f, int64_t ms)
{
    struct waiter w = {.f = f};
    loop_timer_init(f->loop, &w.timer);
    loop_timer_start(&w.timer, ms, timer_fired);
    loop_run(f->loop);
    loop_timer_close(&w.timer, timer_gone);
    while (!w.closed)
        loop_run(f->loop);
}

void wait_for_file(struct fixture *f, const char *path)
{
    for (int i = 0; access(path, F_OK) != 0; i++) {
        assert_true(i < 3000);
        turn(f, 10);
    }
}

int on_host(struct fixture *f, const char *command)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(f->dir) < 0)
            _exit(126);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- the store ---- */

struct stored {
    struct store_job job;
    struct fixture *f;
    void *arg;
    bool done;
    struct err err;
};

void *on_store_arg(struct store_job *job)
{
    return CONTAINER_OF(job, struct stored, job)->arg;
}

static void stored(struct store_job *job, const struct err *err)
{
    struct stored *s = CONTAINER_OF(job, struct stored, job);
    s->done = true;
    s->err = *err;
    loop_stop(s->f->loop);
}

int on_store(struct fixture *f, bool write,
             int (*fn)(struct store_tx *tx, struct store_job *job, struct err *err), void *arg)
{
    struct stored s = {.job = {.fn = fn, .done = stored}, .f = f, .arg = arg};
    struct store_port port = store_port(f->store);
    (write ? port.write : port.read)(port.self, &s.job);
    while (!s.done)
        loop_run(f->loop);
    return s.err.code;
}

/* ---- workspaces ---- */

struct result {
    struct fixture *f;
    bool done;
    int fd;
    uint64_t len;
    struct err err;
};

static void read_done(void *arg, int fd, uint64_t len, const struct err *err)
{
    struct result *r = arg;
    r->done = true;
    r->fd = fd;
    r->len = len;
    r->err = *err;
    loop_stop(r->f->loop);
}

static void import_done(void *arg, const struct err *err)
{
    read_done(arg, -1, 0, err);
}

int read_workspace(struct fixture *f, const char *session, enum workspace_what what,
                   const char *path, struct buf *out, struct err *err)
{
    struct result r = {.f = f};
    workspace_read(f->s, str_z(session), what, str_z(path), read_done, &r);
    while (!r.done)
        loop_run(f->loop);
    *err = r.err;
    if (r.err.code == 0) {
        assert_int_equal(fd_read_all(r.fd, out, err), 0);
        assert_int_equal(out->len, r.len);
        close(r.fd);
    }
    buf_ch(out, '\0');
    out->len--;
    return r.err.code;
}

int import_workspace(struct fixture *f, const char *session, int fd, struct err *err)
{
    struct result r = {.f = f};
    workspace_import(f->s, str_z(session), fd, import_done, &r);
    while (!r.done)
        loop_run(f->loop);
    *err = r.err;
    return r.err.code;
}
