/* Workspace jobs: imports, exports, listings, patches. One at a time for each session.
 *
 * Whatever looks at many of the agent's files (tar, git) runs in a sandbox of its own, as the
 * session's user and without a network: the tree may be full of traps and may change while it is
 * read.
 *
 *   restore, if its directory is gone --> prepare (worker) --> run a program in a sandbox --> done
 *                                                \------------------------------------------^
 *                                                  listings and single files
 *
 * After an import a checkpoint is taken, before anybody is told that it is done. */
#include "sandbox/impl.h"

#include "base/fd.h"
#include "sandbox/box.h"
#include "sandbox/restore.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILES_MS = 10 * 60 * 1000, FILES_CPU_SECONDS = 600, FILES_MEMORY_MB = 8192 };
/* Holes take no disk, but come out as zeros: without a bound a few files of holes would fill the
 * server's disk. Trees may come out larger than the disk limit, but not by more than this. */
enum { FILES_SPARSE = 2 };
enum { FD_IN, FD_OUT, FD_ERR, FD_ARGS, FD_SECCOMP, FILES_FDS };
enum { FILES_IMPORT = -1 }; /* beside enum workspace_what */

/* A session's queue. */
struct files {
    struct list node;
    struct id id;
    struct list jobs; /* the first one runs */
};

struct workspace_job {
    struct list node;
    struct files *queue;
    struct sandboxes *s;
    int what; /* enum workspace_what, or FILES_IMPORT */
    char *path;
    struct loop_work work;
    struct loop_child child;
    struct loop_timer timer;
    struct recipe recipe;
    struct session_paths paths;
    char scratch[PATH_MAX];
    int tar, in, out, errors;
    bool program, spawned, timed_out, has_base;
    bool waited; /* for a checkpoint that was under way */
    struct past past;
    struct workspace_moment *moment; /* NULL: the present */
    unsigned open;
    struct err err;
    void (*imported)(void *arg, const struct err *err);
    void (*read)(void *arg, int fd, uint64_t len, const struct err *err);
    void *arg;
};

/* Only what is ours configures git; the tree's own attributes must not change a byte, and its .git
 * directories are not looked at. */
static const char git_setup[] =
    "set -eu\n"
    "export LC_ALL=C HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null\n"
    "command -v git >/dev/null || { echo 'git is not installed on the server' >&2; exit 90; }\n"
    "tree=/workspace\n"
    "g() { git --git-dir=\"$repo\" --work-tree=\"$tree\" -c core.hooksPath=/dev/null \\\n"
    "    -c core.fsmonitor=false -c core.autocrlf=false -c core.symlinks=true \\\n"
    "    -c core.fileMode=true -c core.attributesFile=/dev/null -c core.excludesFile=/dev/null \\\n"
    "    -c core.bigFileThreshold=32m -c gc.auto=0 -c core.checkStat=default \"$@\"; }\n"
    "make_repo() { git init -q --bare --template= \"$repo\"; mkdir -p \"$repo/info\"\n"
    "    echo '* -text -filter -ident -working-tree-encoding !diff' >\"$repo/info/attributes\"; }\n"
    "all_files() { find . -name .git -prune -o \\( -type f -readable -o -type l \\) -printf "
    "'%P\\0' |\n"
    "    sort -z; }\n"
    "cd /workspace\n";

static const char import_script[] =
    "umask 022\n"
    "tar -xpf - --no-same-owner -C /workspace\n"
    "repo=/base.git\n"
    "[ -d $repo/objects ] || make_repo\n"
    "export GIT_INDEX_FILE=/tmp/index\n"
    "all_files | g update-index -z --add --stdin\n"
    "g write-tree >/tmp/tree\n"
    "cp -p /tmp/index $repo/index.new && mv $repo/index.new $repo/index\n"
    "cp /tmp/tree $repo/BASE.new && mv $repo/BASE.new $repo/BASE\n";

/* New files count unless the tree's own ignore rules leave them out; files of the baseline always
 * do. Between two moments the baseline is the index after the earlier one. */
static const char patch_script[] =
    "repo=/tmp/repo\n"
    "make_repo\n"
    "if [ -f /base.git/BASE ]; then\n"
    "    cp -p /base.git/index $repo/index; base=$(cat /base.git/BASE)\n"
    "    mkdir -p $repo/objects/info; echo /base.git/objects >$repo/objects/info/alternates\n"
    "else\n"
    "    base=$(g hash-object -w -t tree /dev/null)\n"
    "fi\n"
    "look() { cd \"$tree\"\n"
    "    all_files >/tmp/present\n"
    "    g ls-files -z | sort -z >/tmp/known\n"
    "    comm -z -23 /tmp/known /tmp/present >/tmp/gone\n"
    "    comm -z -12 /tmp/known /tmp/present >/tmp/add\n"
    "    comm -z -13 /tmp/known /tmp/present >/tmp/new\n"
    "    g check-ignore -z --no-index --stdin </tmp/new >/tmp/ignored || [ $? = 1 ]\n"
    "    sort -z /tmp/ignored | comm -z -23 /tmp/new - >>/tmp/add\n"
    "    g update-index -z --force-remove --stdin </tmp/gone\n"
    "    g update-index -z --add --remove --replace --stdin </tmp/add; }\n"
    "if [ -n \"${FROM-}\" ]; then tree=/from; look; base=$(g write-tree); tree=/workspace; fi\n"
    "look\n"
    "g diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames \\\n"
    "    \"$base\"\n";

static const char *const tar_command[] = {"/bin/tar",
                                          "-cf",
                                          "-",
                                          "--format=posix",
                                          "--sort=name",
                                          "--numeric-owner",
                                          "--owner=0",
                                          "--group=0",
                                          "--ignore-failed-read",
                                          "--warning=no-file-changed",
                                          "-C",
                                          "/workspace",
                                          ".",
                                          NULL};

/* ---- on a worker ---- */

static const char *const from_variables[] = {"FROM", "1", NULL};

/* Beside what every job has. */
static void add_mounts(struct workspace_job *j, struct recipe_how *how, const char *from)
{
    if (j->has_base)
        how->mounts[how->nmounts++] =
            (struct recipe_mount){j->paths.base, "/base.git", j->what == FILES_IMPORT};
    if (j->past.from)
        how->mounts[how->nmounts++] = (struct recipe_mount){from, "/from", false};
}

static int build(struct workspace_job *j, struct err *err)
{
    const struct host *h = &j->s->host;
    bool import = j->what == FILES_IMPORT;
    AUTO_BUF struct buf script = BUF_INIT(16384);
    buf_z(&script, git_setup);
    buf_z(&script, import ? import_script : patch_script);
    const char *shell[] = {"/bin/sh", "-c", script.data, NULL};
    bool tar = j->what == WORKSPACE_TAR || j->what == WORKSPACE_OUTPUTS;
    struct recipe_how how = {
        .launcher = h->hand,
        .etc = h->etc,
        .uid = j->paths.uid,
        .mounts = {{j->what == WORKSPACE_OUTPUTS ? j->paths.outputs : j->paths.workspace,
                    "/workspace", import},
                   {j->scratch, "/tmp", true}},
        .nmounts = 2,
        .command = tar ? tar_command : shell,
        .variables = j->past.from ? from_variables : NULL,
        .file_mb = FILES_SPARSE * h->limits.disk_mb,
        .cpu_seconds = FILES_CPU_SECONDS,
        .memory_mb = FILES_MEMORY_MB,
        .args_fd = FD_ARGS,
        .seccomp_fd = FD_SECCOMP,
        .info_fd = -1,
        .die_with_server = true,
        .unsafe = h->unsafe,
    };
    char from[PATH_MAX];
    past_path(&j->past, "from/workspace", from);
    add_mounts(j, &how, from);
    j->program = recipe_build(&j->recipe, &how, err) == 0;
    return j->program ? 0 : err->code;
}

static int make_dir(const char *path, uid_t uid, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    if (uid && lchown(path, uid, uid) < 0)
        return err_sys(err, errno, "%s", path);
    return 0;
}

/* Where the program finds things; what a session of the past has is not where the session is. */
static int prepare_dirs(struct workspace_job *j, struct err *err)
{
    int rc = 0;
    if (j->past.used || j->past.from)
        rc = past_restore(&j->past, &j->s->host, j->paths.uid, err);
    if (j->past.used) {
        past_path(&j->past, "at/workspace", j->paths.workspace);
        past_path(&j->past, "at/base.git", j->paths.base);
        past_path(&j->past, "scratch", j->scratch);
    }
    if (rc || j->past.used)
        return rc;
    rc = session_prepare(&j->paths, err);
    if (rc)
        return rc;
    snprintf(j->scratch, sizeof j->scratch, "%s/scratch", j->paths.dir);
    tree_remove(j->scratch, NULL); /* of a server that was killed */
    return make_dir(j->scratch, j->paths.uid, err);
}

static int prepare_program(struct workspace_job *j, struct err *err)
{
    int rc = prepare_dirs(j, err);
    if (rc == 0 && j->what == FILES_IMPORT)
        rc = make_dir(j->paths.base, j->paths.uid, err);
    j->has_base = access(j->paths.base, F_OK) == 0;
    j->errors = memfd_create("errors", MFD_CLOEXEC);
    if (rc == 0 && j->errors < 0)
        rc = err_sys(err, errno, "memfd");
    return rc ? rc : build(j, err);
}

static int prepare_import(struct workspace_job *j, struct err *err)
{
    const struct host *h = &j->s->host;
    j->in = host_tmpfile(h, err);
    if (j->in < 0)
        return err->code;
    int rc = tar_sanitize(j->tar, j->in, (uint64_t)h->limits.disk_mb << 20, err);
    if (rc == 0 && lseek(j->in, 0, SEEK_SET) < 0)
        rc = err_sys(err, errno, "the archive");
    return rc ? rc : prepare_program(j, err);
}

static int prepare(struct workspace_job *j, struct err *err)
{
    struct str path = str_z(j->path);
    session_paths(&j->s->host, j->queue->id.z, &j->paths);
    if (j->what == FILES_IMPORT)
        return prepare_import(j, err);
    j->out = host_tmpfile(&j->s->host, err);
    if (j->out < 0)
        return err->code;
    if (past_holds(&j->past, &j->paths) && j->what != WORKSPACE_PATCH)
        return past_answer(&j->past, &j->s->host, (enum workspace_what)j->what, path, j->out,
                           FILES_SPARSE * (j->s->host.limits.disk_mb << 20), err);
    switch (j->what) {
    case WORKSPACE_LIST: return path_list(j->paths.workspace, path, j->out, err);
    case WORKSPACE_FILE: return path_read(j->paths.workspace, path, j->out, err);
    default: return prepare_program(j, err);
    }
}

static void prepare_work(struct loop_work *w)
{
    struct workspace_job *j = CONTAINER_OF(w, struct workspace_job, work);
    prepare(j, &j->err);
}

static void clean_work(struct loop_work *w)
{
    struct workspace_job *j = CONTAINER_OF(w, struct workspace_job, work);
    if (j->scratch[0])
        tree_remove(j->scratch, NULL);
    past_clear(&j->past);
}

/* ---- the end of a job ---- */

static void start(struct workspace_job *j);

static void deliver(struct workspace_job *j)
{
    struct stat st = {.st_size = 0};
    if (j->imported) {
        j->imported(j->arg, &j->err);
        return;
    }
    if (j->err.code == 0 && (fstat(j->out, &st) < 0 || lseek(j->out, 0, SEEK_SET) < 0))
        err_sys(&j->err, errno, "the result");
    bool ok = j->err.code == 0;
    if (j->moment)
        j->moment->used = j->past.used;
    j->read(j->arg, ok ? TAKE_FD(j->out) : -1, ok ? (uint64_t)st.st_size : 0, &j->err);
}

static void finished(struct workspace_job *j)
{
    struct sandboxes *s = j->s;
    struct files *q = j->queue;
    /* Still the first of its queue: a job that the call-back adds waits behind it. */
    if (!s->closing)
        deliver(j);
    list_remove(&j->node);
    recipe_fini(&j->recipe);
    int fds[] = {j->tar, j->in, j->out, j->errors};
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        fd_close(fds[i]);
    past_fini(&j->past);
    mem_free(j->path);
    mem_free(j);
    if (list_empty(&q->jobs)) {
        list_remove(&q->node);
        mem_free(q);
    } else {
        start(LIST_ENTRY(q->jobs.next, struct workspace_job, node));
    }
    sandboxes_job_ended(s);
}

static void kept(void *arg)
{
    finished(arg);
}

static void one_closed(struct workspace_job *j)
{
    struct sandboxes *s = j->s;
    if (--j->open)
        return;
    if (j->what == FILES_IMPORT && j->err.code == 0 && !s->closing && restore_possible(s))
        box_checkpoint(s, id_str(&j->queue->id), CHECKPOINT_LAST, true, kept, j);
    else
        finished(j);
}

static void timer_closed(struct loop_timer *t)
{
    one_closed(CONTAINER_OF(t, struct workspace_job, timer));
}

static void child_closed(struct loop_child *c)
{
    one_closed(CONTAINER_OF(c, struct workspace_job, child));
}

static void cleaned(struct loop_work *w)
{
    one_closed(CONTAINER_OF(w, struct workspace_job, work));
}

static void clean_up(struct workspace_job *j)
{
    j->open = 2 + j->spawned;
    loop_timer_close(&j->timer, timer_closed);
    if (j->spawned)
        loop_child_close(&j->child, child_closed);
    loop_work(j->s->loop, &j->work, clean_work, cleaned);
}

/* ---- the program ---- */

static int program_failed(struct workspace_job *j, int code)
{
    const char *what = j->what == FILES_IMPORT ? "imported" : "read";
    if (code == 128 + SIGXFSZ) /* as shells and bubblewrap say it */
        return err_set(&j->err, ERR_UNAVAILABLE,
                       "the workspace could not be %s: it came out larger than %" PRId64 " MB",
                       what, FILES_SPARSE * j->s->host.limits.disk_mb);
    if (j->timed_out)
        return err_set(&j->err, ERR_TIMEOUT, "the workspace could not be %s: it took too long",
                       what);
    char said[200];
    ssize_t n = pread(j->errors, said, sizeof said, 0);
    struct str text = str_trim(str_n(said, n > 0 ? (size_t)n : 0));
    return err_set(&j->err, ERR_UNAVAILABLE, "the workspace could not be %s: " STR_FMT, what,
                   STR_ARG(text.len ? text : STR("the program was killed")));
}

static void on_exit_of_program(struct loop_child *c, int status)
{
    struct workspace_job *j = CONTAINER_OF(c, struct workspace_job, child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    bool tar = j->what == WORKSPACE_TAR || j->what == WORKSPACE_OUTPUTS;
    /* tar says 1 when a file changed while it was read: the agent may be at work. */
    if (code != 0 && !(tar && code == 1))
        program_failed(j, code);
    clean_up(j);
}

static void on_timeout(struct loop_timer *t)
{
    struct workspace_job *j = CONTAINER_OF(t, struct workspace_job, timer);
    j->timed_out = true;
    (void)loop_child_kill(&j->child, SIGKILL);
}

static void run_program(struct workspace_job *j)
{
    AUTO_FD int filter = host_seccomp(&j->s->host);
    int fds[FILES_FDS] = {j->in, j->out, j->errors, j->recipe.args, filter};
    struct loop_spawn how = {
        .file = j->recipe.argv[0], .argv = j->recipe.argv, .fds = fds, .nfds = FILES_FDS};
    if (loop_spawn(j->s->loop, &j->child, &how, on_exit_of_program, &j->err) != 0) {
        clean_up(j);
        return;
    }
    j->spawned = true;
    loop_timer_start(&j->timer, FILES_MS, on_timeout);
}

static void prepared(struct loop_work *w)
{
    struct workspace_job *j = CONTAINER_OF(w, struct workspace_job, work);
    if (j->program && j->err.code == 0 && !j->s->closing)
        run_program(j);
    else
        clean_up(j);
}

static bool needs_sandbox(const struct workspace_job *j)
{
    bool tar = j->what == WORKSPACE_TAR || j->what == WORKSPACE_OUTPUTS;
    if (j->what == WORKSPACE_LIST || j->what == WORKSPACE_FILE)
        return false;
    return !(tar && j->past.manifest && !j->past.when_gone);
}

static void restored(void *arg, const struct err *err)
{
    struct workspace_job *j = arg;
    j->err = *err;
    if (err->code || j->s->closing)
        clean_up(j);
    else
        loop_work(j->s->loop, &j->work, prepare_work, prepared);
}

static void on_probed(void *arg)
{
    struct workspace_job *j = arg;
    struct stat st;
    if (j->s->closing) {
        clean_up(j);
        return;
    }
    if (!j->s->tier.ok && needs_sandbox(j)) {
        err_set(&j->err, ERR_UNAVAILABLE, "no sandbox can be had here: %s", j->s->tier.reason);
        clean_up(j);
        return;
    }
    /* What is kept as the end of a turn must not have half an import in it. */
    const struct box *b = box_find(j->s, id_str(&j->queue->id));
    if (j->what == FILES_IMPORT && !j->waited && b && checkpoint_busy(b)) {
        j->waited = true;
        box_checkpoint(j->s, id_str(&j->queue->id), CHECKPOINT_LAST, true, on_probed, j);
        return;
    }
    session_paths(&j->s->host, j->queue->id.z, &j->paths);
    /* What is answered from a snapshot needs no directory. */
    if (!j->past.manifest && restore_possible(j->s) && lstat(j->paths.workspace, &st) < 0)
        restore_start(j->s, id_str(&j->queue->id), false, restored, j);
    else
        loop_work(j->s->loop, &j->work, prepare_work, prepared);
}

static void start(struct workspace_job *j)
{
    loop_timer_init(j->s->loop, &j->timer);
    if (j->s->closing)
        clean_up(j);
    else
        probe_wait(j->s, on_probed, j);
}

/* ---- the queue ---- */

static struct files *queue_of(struct sandboxes *s, struct str session_id)
{
    list_for_each (it, &s->files) {
        struct files *q = LIST_ENTRY(it, struct files, node);
        if (str_eq(id_str(&q->id), session_id))
            return q;
    }
    struct files *q = mem_zalloc(sizeof *q);
    q->id = id_from(session_id);
    list_init(&q->jobs);
    list_push(&s->files, &q->node);
    return q;
}

static struct workspace_job *job_new(struct sandboxes *s, struct str session_id, int what)
{
    struct workspace_job *j = mem_zalloc(sizeof *j);
    j->s = s;
    j->what = what;
    j->queue = queue_of(s, session_id);
    j->tar = j->in = j->out = j->errors = -1;
    j->recipe.args = -1;
    past_init(&j->past, NULL);
    arena_init(&j->recipe.arena, 1);
    list_push(&j->queue->jobs, &j->node);
    sandboxes_job_began(s);
    return j;
}

static void job_begin(struct workspace_job *j)
{
    if (j->queue->jobs.next == &j->node)
        start(j);
}

void workspace_import(struct sandboxes *s, struct str session_id, int tar_fd,
                      void (*done)(void *arg, const struct err *err), void *arg)
{
    struct workspace_job *j = job_new(s, session_id, FILES_IMPORT);
    j->tar = tar_fd;
    j->imported = done;
    j->arg = arg;
    job_begin(j);
}

void workspace_read_at(struct sandboxes *s, struct str session_id, enum workspace_what what,
                       struct workspace_moment *moment, struct str path,
                       void (*done)(void *arg, int fd, uint64_t len, const struct err *err),
                       void *arg)
{
    struct workspace_job *j = job_new(s, session_id, (int)what);
    j->path = path.len ? mem_dupz(path.ptr, path.len) : NULL;
    j->read = done;
    j->arg = arg;
    j->moment = moment;
    past_init(&j->past, moment);
    job_begin(j);
}

void workspace_read(struct sandboxes *s, struct str session_id, enum workspace_what what,
                    struct str path,
                    void (*done)(void *arg, int fd, uint64_t len, const struct err *err), void *arg)
{
    workspace_read_at(s, session_id, what, NULL, path, done, arg);
}

void files_close(struct sandboxes *s)
{
    list_for_each (it, &s->files) {
        struct files *q = LIST_ENTRY(it, struct files, node);
        struct workspace_job *j = LIST_ENTRY(q->jobs.next, struct workspace_job, node);
        if (j->spawned)
            (void)loop_child_kill(&j->child, SIGKILL);
    }
}
