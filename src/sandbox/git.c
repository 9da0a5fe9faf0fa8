/* Cloning one repository:
 *
 *   look up --> prepare (worker) --> fetch --> prepare (worker) --> checkout --> settle (worker)
 *
 * The server resolves the host's name and checks the address; git is told the answer and has no
 * resolver, so that no other address can come of it. */
#include "sandbox/git.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "egress/address.h"
#include "io/stream.h"
#include "sandbox/mirrors.h"
#include "sandbox/tree.h"
#include "store/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GIT_MS = 10 * 60 * 1000,
    GIT_TICK_MS = 1000,
    GIT_LOG_MS = 30 * 1000,
    GIT_CPU_SECONDS = 600,
    GIT_MEMORY_MB = 8192,
    GIT_SKILLS_MAX = 16 * 1024,
};
enum { FD_IN, FD_OUT, FD_ERR, FD_ARGS, FD_SECCOMP, FD_TOKEN, GIT_FDS };
enum git_stage { GIT_FETCH, GIT_CHECKOUT };

struct git_clone {
    struct sandboxes *s;
    struct id session_id;
    const struct git_repository *r;
    enum git_stage stage;
    struct session_paths paths;
    char mirrors[PATH_MAX - 128], mirror[PATH_MAX], scratch[PATH_MAX];
    struct loop_work work;
    struct loop_child child;
    struct loop_timer timer;
    struct recipe recipe;
    int errors, out, token;
    int use; /* as long as the mirror is needed */
    bool spawned, timed_out, too_large, cancelled, http;
    int status;
    int64_t began_ms, logged_ms;
    uint64_t free_before;
    char host[256], resolve[512];
    char port[8];
    struct err err;
    struct git_result result;
    void (*done)(void *arg, const struct git_result *result);
    void *arg;
};

/* ---- the programs ---- */

/* Nothing but this configures git; no helper, hook or filter of the repository runs. */
static const char common[] =
    "set -u\n"
    "umask 022\n"
    "export LC_ALL=C HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/tmp/gitconfig "
    "GIT_TERMINAL_PROMPT=0 GIT_NO_REPLACE_OBJECTS=1\n"
    "printf '[safe]\\n\\tdirectory = *\\n' >/tmp/gitconfig\n"
    "command -v git >/dev/null || { echo 'git is not installed on the server' >&2; exit 90; }\n";

/* Exit codes: 91 not reachable, 92 not fetched, 93 no such branch or commit. */
static const char fetch_script[] =
    "exec 8>/mirror/ostler.lock\n"
    "flock 8\n"
    "cd /mirror\n"
    /* Of a fetch that was killed: whoever has the lock above has the mirror for itself. */
    "find . -name '*.lock' ! -path ./ostler.lock -type f -delete 2>/dev/null\n"
    "rm -rf objects/pack/tmp_* objects/pack/.tmp-* objects/incoming-* objects/tmp_objdir-*\n"
    "git init -q --bare --template= . || exit 92\n"
    "helper=; [ -z \"$TOKEN_FD\" ] || helper='!f() { [ \"$1\" != get ] || cat "
    "\"/proc/self/fd/'$TOKEN_FD'\"; }; f'\n"
    "g() { git -c protocol.allow=never -c \"protocol.$SCHEME.allow=always\" \\\n"
    "    -c http.followRedirects=false -c core.hooksPath=/dev/null -c gc.auto=0 \\\n"
    "    -c fetch.unpackLimit=1 -c fetch.recurseSubmodules=no -c credential.helper= \\\n"
    "    -c credential.helper=\"$helper\" -c http.curloptResolve=\"$RESOLVE\" \\\n"
    "    -c http.lowSpeedLimit=100 -c http.lowSpeedTime=60 \"$@\"; }\n"
    "head=$(g ls-remote --symref \"$URL\" HEAD) || exit 91\n"
    "default=$(printf '%s\\n' \"$head\" | sed -n 's/^ref: \\(refs\\/heads\\/.*\\)\\tHEAD$/\\1/p')\n"
    "g fetch -q --force --prune --no-write-fetch-head \"$URL\" '+refs/heads/*:refs/heads/*' "
    "'+refs/tags/*:refs/tags/*' || exit 92\n"
    "[ -z \"$default\" ] || git symbolic-ref HEAD \"$default\"\n"
    "if [ -n \"$BRANCH\" ]; then\n"
    "    git rev-parse -q --verify \"refs/heads/$BRANCH^{commit}\" >/dev/null ||\n"
    "        { echo \"it has no branch '$BRANCH'\" >&2; exit 93; }\n"
    "fi\n"
    /* A commit that no branch holds any more may still be had by its name. */
    "if [ -n \"$COMMIT\" ] && ! git cat-file -e \"$COMMIT^{commit}\" 2>/dev/null; then\n"
    "    g fetch -q \"$URL\" \"$COMMIT:refs/ostler/$COMMIT\" 2>/dev/null ||\n"
    "        { echo \"it has no commit $COMMIT\" >&2; exit 93; }\n"
    "fi\n"
    "git -c gc.auto=6700 -c gc.autoPackLimit=50 -c gc.autoDetach=false gc --auto -q || :\n";

/* Exit codes: 95 the place is taken, 96 not cloned, 97 not checked out. In the end the names of the
 * repository's own skills are told. */
static const char checkout_script[] =
    "exec 8</mirror/ostler.lock\n"
    "flock -s 8\n"
    "dest=$DEST\n"
    "skills() { cd \"$dest\" && find .claude/skills -mindepth 2 -maxdepth 2 -name SKILL.md -type f "
    "2>/dev/null | sort | head -n 100; }\n"
    "[ ! -f \"$dest/.git/ostler-$ID\" ] || { skills; exit 0; }\n"
    "if [ -e \"$dest\" ] || [ -L \"$dest\" ]; then\n"
    "    rmdir \"$dest\" 2>/dev/null || { echo \"$dest is there already and not empty\" >&2; exit "
    "95; }\n"
    "fi\n"
    "mkdir -p \"$(dirname \"$dest\")\" || exit 95\n"
    "tmp=/workspace/.ostler-clone-$ID\n"
    "rm -rf \"$tmp\"\n"
    "trap 'rm -rf \"$tmp\"' EXIT\n"
    "g() { git -c protocol.allow=never -c protocol.file.allow=always -c core.hooksPath=/dev/null "
    "\\\n"
    "    -c advice.detachedHead=false \"$@\"; }\n"
    "g clone -q --template= --no-hardlinks --no-checkout /mirror \"$tmp\" 2>/tmp/why ||\n"
    "    { cat /tmp/why >&2; exit 96; }\n"
    "cd \"$tmp\" || exit 96\n"
    "g remote set-url origin \"$URL\" || exit 96\n"
    "if [ -n \"$COMMIT\" ]; then\n"
    "    g checkout -q --detach \"$COMMIT\" || exit 97\n"
    "elif [ -n \"$BRANCH\" ]; then\n"
    "    g checkout -q -B \"$BRANCH\" --track \"origin/$BRANCH\" || exit 97\n"
    "elif g rev-parse -q --verify HEAD >/dev/null; then\n"
    "    g reset -q --hard || exit 97\n"
    "fi\n"
    ": >.git/ostler-$ID\n"
    "cd /workspace && mv -T \"$tmp\" \"$dest\" || exit 95\n"
    "skills\n"
    "exit 0\n";

/* ---- where it is ---- */

static int fail(struct git_clone *g, const char *error, const char *fmt, ...) PRINTF(3, 4);
static int fail(struct git_clone *g, const char *error, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->result.message, sizeof g->result.message, fmt, ap);
    va_end(ap);
    g->result.error = error;
    return err_set(&g->err, ERR_UNAVAILABLE, "%s", g->result.message);
}

static const char clone_error[] = "repository_clone_error";
static const char checkout_error[] = "repository_checkout_error";

/* The URL was checked when it came in: here it is only taken apart. */
static int split_url(struct git_clone *g)
{
    struct str rest = str_z(g->r->url);
    g->http = str_starts(rest, STR("http://"));
    rest = str_skip(rest, g->http ? 7 : 8);
    struct str authority = str_split(&rest, '/'), host = authority, port = STR_NONE;
    if (authority.len && authority.ptr[0] == '[') {
        ptrdiff_t close = str_find_ch(authority, ']');
        host = close > 0 ? str_n(authority.ptr + 1, (size_t)close - 1) : STR_NONE;
        port = close > 0 ? str_skip(authority, (size_t)close + 2) : STR_NONE;
    } else if (str_find_ch(authority, ':') >= 0) {
        port = authority;
        host = str_split(&port, ':');
    }
    if (port.len == 0)
        port = g->http ? STR("80") : STR("443");
    if (host.len == 0 || !str_copyz(g->host, sizeof g->host, host) ||
        !str_copyz(g->port, sizeof g->port, port))
        return fail(g, clone_error, "The URL %.200s names no host.", g->r->url);
    return 0;
}

/* The first address that may be asked. */
static int pick_address(struct git_clone *g, const struct sockaddr_storage *addresses, size_t n)
{
    const struct host *h = &g->s->host;
    const char *refused = NULL;
    for (size_t i = 0; i < n && !g->resolve[0]; i++) {
        struct ip ip;
        char text[IP_TEXT_MAX];
        if (!ip_from(&addresses[i], &ip))
            continue;
        const char *why = ip_refused(&ip, h->allow, h->nallow);
        refused = why ? why : refused;
        ip_text(&ip, text);
        if (!why)
            snprintf(g->resolve, sizeof g->resolve, ip.v6 ? "%s:%s:[%s]" : "%s:%s:%s", g->host,
                     g->port, text);
    }
    if (g->resolve[0])
        return 0;
    return fail(
        g, clone_error,
        "The host %.200s has no address that the server may connect to%s%s; an operator can "
        "allow it with repositories.allow_addresses.",
        g->host, refused ? ": it is " : "", refused ? refused : "");
}

/* Of nobody else: what a fetch gets hold of can do nothing to a session. */
static uid_t mirror_uid(const struct host *h)
{
    return h->root ? (uid_t)(UID_BASE - 1) : 0;
}

static int take_mirror(struct git_clone *g, struct err *err)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[sizeof sum * 2 + 1], text[4096];
    struct host *h = &g->s->host;
    int n = snprintf(text, sizeof text, "%s %s", g->r->workspace, g->r->url);
    crypto_hash_sha256(sum, (const unsigned char *)text, n > 0 ? (unsigned long long)n : 0);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    hex[40] = '\0';
    snprintf(g->mirrors, sizeof g->mirrors, "%s/repositories", h->data);
    snprintf(g->mirror, sizeof g->mirror, "%s/%s.git", g->mirrors, hex);
    int rc = fd_mkdirs(g->mirrors, 0700, err);
    return rc ? rc : mirror_take(g->mirrors, hex, mirror_uid(h), &g->use, err);
}

/* ---- on a worker ---- */

static int make_dir(const char *path, uid_t uid, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    if (chmod(path, mode) < 0 || (uid && lchown(path, uid, uid) < 0))
        return err_sys(err, errno, "%s", path);
    return 0;
}

/* What git asks its helper for, in a file without a name that only this child is given. */
static int put_token(struct git_clone *g, struct err *err)
{
    AUTO_ARENA struct arena a;
    struct str token;
    arena_init(&a, SECRET_MAX * 8);
    int rc = secret_open(g->s->host.data, str_z(g->r->id), g->r->secret, &a, &token, err);
    if (rc)
        return rc;
    g->token = memfd_create("token", MFD_CLOEXEC);
    if (g->token < 0)
        return err_sys(err, errno, "memfd");
    AUTO_BUF struct buf b = BUF_INIT(SECRET_MAX * 2);
    buf_z(&b, "username=x-access-token\npassword=");
    buf_str(&b, token);
    buf_ch(&b, '\n');
    rc = fd_write_all(g->token, buf_view(&b), err);
    if (b.data)
        sodium_memzero(b.data, b.len);
    sodium_memzero((char *)(uintptr_t)token.ptr, token.len);
    return rc;
}

static int build(struct git_clone *g, struct err *err)
{
    const struct host *h = &g->s->host;
    const struct git_repository *r = g->r;
    bool fetch = g->stage == GIT_FETCH;
    AUTO_BUF struct buf script = BUF_INIT(32768);
    char token_fd[8] = "";
    buf_z(&script, common);
    buf_z(&script, fetch ? fetch_script : checkout_script);
    if (fetch && g->token >= 0)
        snprintf(token_fd, sizeof token_fd, "%d", FD_TOKEN);
    const char *command[] = {"/bin/sh", "-c", script.data, NULL};
    const char *variables[] = {
        "URL",     r->url,     "BRANCH",   r->branch, "COMMIT", r->commit,
        "RESOLVE", g->resolve, "TOKEN_FD", token_fd,  "SCHEME", g->http ? "http" : "https",
        "ID",      r->id,      "DEST",     r->path,   NULL};
    struct recipe_how how = {
        .launcher = h->hand,
        .etc = h->etc,
        .uid = fetch ? mirror_uid(h) : g->paths.uid,
        .mounts = {{g->mirror, "/mirror", fetch},
                   {g->scratch, "/tmp", true},
                   {g->paths.workspace, "/workspace", true}},
        .nmounts = fetch ? 2 : 3,
        .variables = variables,
        .command = command,
        .file_mb = fetch ? LIMIT_REPOSITORY_MB : h->limits.file_mb,
        .cpu_seconds = GIT_CPU_SECONDS,
        .memory_mb = GIT_MEMORY_MB,
        .args_fd = FD_ARGS,
        .seccomp_fd = FD_SECCOMP,
        .info_fd = -1,
        .host_network = fetch,
        .die_with_server = true,
    };
    return recipe_build(&g->recipe, &how, err);
}

static int prepare_fetch(struct git_clone *g, struct err *err)
{
    if (g->err.code) /* of the lookup */
        return g->err.code;
    int rc = take_mirror(g, err);
    if (rc == 0 && str_some(g->r->secret))
        rc = put_token(g, err);
    return rc;
}

static uint64_t free_space(const char *path)
{
    struct statvfs v;
    return statvfs(path, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
}

static void prepare_work(struct loop_work *w)
{
    struct git_clone *g = CONTAINER_OF(w, struct git_clone, work);
    struct err *err = &g->err;
    bool fetch = g->stage == GIT_FETCH;
    int rc = fetch ? prepare_fetch(g, err) : 0;
    snprintf(g->scratch, sizeof g->scratch, "%s/%s", g->paths.dir, fetch ? "fetch" : "checkout");
    tree_remove(g->scratch, NULL); /* of a server that was killed */
    if (rc == 0)
        rc = make_dir(g->scratch, fetch ? mirror_uid(&g->s->host) : g->paths.uid, 0700, err);
    if (rc == 0 && ((g->errors = memfd_create("errors", MFD_CLOEXEC)) < 0 ||
                    (g->out = memfd_create("out", MFD_CLOEXEC)) < 0))
        rc = err_sys(err, errno, "memfd");
    if (rc == 0)
        rc = build(g, err);
    g->free_before = free_space(g->paths.dir);
}

static void marker_path(const char *dir, const char *id, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/repositories/%s", dir, id);
}

static int mark(const char *dir, const char *id, struct str said, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/repositories", dir);
    int rc = fd_mkdirs(path, 0700, err);
    marker_path(dir, id, path);
    return rc ? rc : fd_write_file_atomic(path, said, 0600, err);
}

void git_settle(const char *dir, const char *id)
{
    (void)!mark(dir, id, STR("cloned"), NULL);
}

bool git_is_settled(const struct session_paths *p, const struct git_repository *r, bool again)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = BUF_INIT(256);
    int64_t tried = -1;
    marker_path(p->dir, r->id, path);
    if (fd_read_file(path, &text, NULL) != 0)
        return false;
    struct str said = str_trim(buf_view(&text));
    if (str_eqz(said, "cloned"))
        return true;
    return !again && str_i64(said, &tried) && tried == r->updated_us;
}

/* The repository's own skills, for the first result that the model sees. */
static void keep_skills(struct git_clone *g)
{
    char path[PATH_MAX], names[GIT_SKILLS_MAX];
    ssize_t n = pread(g->out, names, sizeof names, 0);
    struct str rest = str_n(names, n > 0 ? (size_t)n : 0);
    AUTO_BUF struct buf note = BUF_INIT(GIT_SKILLS_MAX * 4);
    while (rest.len) {
        struct str line = str_split(&rest, '\n'), at = line;
        for (int i = 0; i < 2; i++)
            (void)str_split(&at, '/');
        struct str name = str_split(&at, '/');
        if (name.len && name.len <= 128 && str_utf8(line) && str_eqz(at, "SKILL.md"))
            buf_printf(&note, "- " STR_FMT ": %s/" STR_FMT "\n", STR_ARG(name), g->r->path,
                       STR_ARG(line));
    }
    if (note.len == 0 || !buf_ok(&note))
        return;
    snprintf(path, sizeof path, "%s/repository-skills", g->paths.dir);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        (void)!fd_write_all(fd, buf_view(&note), NULL);
}

static void settle_work(struct loop_work *w)
{
    struct git_clone *g = CONTAINER_OF(w, struct git_clone, work);
    char path[PATH_MAX], said[32];
    const char *const scratch[] = {"fetch", "checkout"};
    for (size_t i = 0; i < COUNT_OF(scratch); i++) {
        snprintf(path, sizeof path, "%s/%s", g->paths.dir, scratch[i]);
        tree_remove(path, NULL);
    }
    fd_close(TAKE_FD(g->use));
    if (g->mirrors[0])
        mirrors_prune(g->mirrors, (uint64_t)g->s->host.mirrors_mb << 20, clock_unix_us() / 1000000);
    if (g->cancelled)
        return;
    bool ok = !g->result.error;
    snprintf(said, sizeof said, "%" PRId64, g->r->updated_us);
    if (mark(g->paths.dir, g->r->id, ok ? STR("cloned") : str_z(said), &g->err) == 0 && ok)
        keep_skills(g);
}

/* ---- the end ---- */

static void timer_closed(struct loop_timer *t)
{
    struct git_clone *g = CONTAINER_OF(t, struct git_clone, timer);
    struct sandboxes *s = g->s;
    char took[32];
    snprintf(took, sizeof took, "%" PRId64, loop_now_ms(s->loop) - g->began_ms);
    if (g->result.error && !g->cancelled)
        log_line(LOG_WARN, "a repository could not be cloned", "session", g->session_id.z, "url",
                 g->r->url, "error", g->result.error, "message", g->result.message, NULL);
    else if (!g->cancelled)
        log_line(LOG_INFO, "cloned a repository", "session", g->session_id.z, "url", g->r->url,
                 "took_ms", took, NULL);
    recipe_fini(&g->recipe);
    g->done(g->arg, &g->result);
    mem_free(g);
    sandboxes_job_ended(s);
}

static void close_files(struct git_clone *g)
{
    int *const fds[] = {&g->errors, &g->out, &g->token};
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        fd_close(TAKE_FD(*fds[i]));
}

static void settled(struct loop_work *w)
{
    struct git_clone *g = CONTAINER_OF(w, struct git_clone, work);
    close_files(g);
    loop_timer_close(&g->timer, timer_closed);
}

static void finish(struct git_clone *g)
{
    char why[ERR_MSG_MAX];
    memcpy(why, g->err.msg, sizeof why);
    if (g->err.code && !g->result.error)
        fail(g, clone_error, "The repository could not be cloned: %.250s.", why);
    loop_work(g->s->loop, &g->work, settle_work, settled);
}

/* ---- running ---- */

static bool says(struct str text, const char *what)
{
    return str_find(text, str_z(what)) >= 0;
}

/* What git says is for people; its exit codes tell nothing. */
static const char *error_of(int code, struct str said)
{
    if (code == 93 || code == 97)
        return checkout_error;
    if (code != 91 && code != 92)
        return clone_error;
    if (says(said, "Authentication failed") || says(said, "could not read Username") ||
        says(said, "could not read Password") || says(said, "error: 401"))
        return "repository_authentication_error";
    if (says(said, "error: 403"))
        return "repository_forbidden_error";
    if (says(said, "not found") || says(said, "error: 404"))
        return "repository_not_found_error";
    return clone_error;
}

static void program_failed(struct git_clone *g, int code)
{
    char said[1024], line[200];
    ssize_t n = pread(g->errors, said, sizeof said, 0);
    struct str text = str_trim(str_n(said, n > 0 ? (size_t)n : 0));
    if (g->cancelled) {
        fail(g, clone_error, "The session ended.");
    } else if (g->timed_out) {
        fail(g, clone_error, "Cloning took more than %d minutes.", GIT_MS / 60000);
    } else if (g->too_large || code == 128 + SIGXFSZ) {
        fail(g, clone_error, "The repository is too large.");
    } else {
        const char *error = error_of(code, text);
        struct str last = text; /* the reason stands behind the last "fatal:" */
        for (ptrdiff_t at; (at = str_find(last, STR("fatal: "))) >= 0;)
            last = str_skip(last, (size_t)at + 7);
        struct str first = str_utf8_take(str_split(&last, '\n'), sizeof line - 1);
        str_copyz(line, sizeof line, first);
        for (char *c = line; *c; c++)
            if ((unsigned char)*c < 0x20)
                *c = ' ';
        fail(g, error, "The repository could not be cloned: %s",
             line[0] ? line : "git was ended by a limit");
    }
}

static void prepared(struct loop_work *w);

static void child_closed(struct loop_child *c)
{
    struct git_clone *g = CONTAINER_OF(c, struct git_clone, child);
    int code = WIFEXITED(g->status) ? WEXITSTATUS(g->status) : -1;
    g->spawned = false;
    if (code != 0 || g->cancelled)
        program_failed(g, code);
    if (code != 0 || g->cancelled || g->stage == GIT_CHECKOUT) {
        finish(g);
        return;
    }
    recipe_fini(&g->recipe);
    close_files(g); /* the token too: nothing more needs it */
    g->stage = GIT_CHECKOUT;
    loop_work(g->s->loop, &g->work, prepare_work, prepared);
}

static void on_exit_of_git(struct loop_child *c, int status)
{
    struct git_clone *g = CONTAINER_OF(c, struct git_clone, child);
    g->status = status;
    loop_timer_stop(&g->timer);
    loop_child_close(&g->child, child_closed);
}

/* Once a second: how long, and how much of the disk went meanwhile. */
static void on_tick(struct loop_timer *t)
{
    struct git_clone *g = CONTAINER_OF(t, struct git_clone, timer);
    int64_t now = loop_now_ms(g->s->loop);
    uint64_t left = free_space(g->paths.dir), limit = (uint64_t)g->s->host.limits.disk_mb << 20;
    g->timed_out = now - g->began_ms > GIT_MS;
    g->too_large = g->free_before > left && g->free_before - left > limit;
    if (g->timed_out || g->too_large) {
        (void)loop_child_kill(&g->child, SIGKILL);
        return;
    }
    if (now - g->logged_ms >= GIT_LOG_MS) {
        char mb[32];
        snprintf(mb, sizeof mb, "%" PRIu64,
                 g->free_before > left ? (g->free_before - left) >> 20 : 0);
        g->logged_ms = now;
        log_line(LOG_INFO, "still cloning a repository", "session", g->session_id.z, "url",
                 g->r->url, "mb", mb, NULL);
    }
    loop_timer_start(t, GIT_TICK_MS, on_tick);
}

static void prepared(struct loop_work *w)
{
    struct git_clone *g = CONTAINER_OF(w, struct git_clone, work);
    if (g->err.code || g->cancelled) {
        finish(g);
        return;
    }
    AUTO_FD int filter = host_seccomp(&g->s->host);
    int fds[GIT_FDS] = {-1, g->out, g->errors, g->recipe.args, filter, g->token};
    struct loop_spawn how = {
        .file = g->recipe.argv[0], .argv = g->recipe.argv, .fds = fds, .nfds = GIT_FDS};
    if (loop_spawn(g->s->loop, &g->child, &how, on_exit_of_git, &g->err) != 0) {
        finish(g);
        return;
    }
    g->spawned = true;
    loop_timer_start(&g->timer, GIT_TICK_MS, on_tick);
}

/* ---- the lookup ---- */

static void on_looked_up(void *arg, const struct err *err, const struct sockaddr_storage *addresses,
                         size_t n)
{
    struct git_clone *g = arg;
    if (err->code)
        fail(g, clone_error, "The host %.200s cannot be resolved: %s.", g->host,
             err->code == ERR_NOT_FOUND ? "it has no address" : "the resolver does not answer");
    else
        pick_address(g, addresses, n);
    loop_work(g->s->loop, &g->work, prepare_work, prepared);
}

/* As a lookup and not as any other work: a name server that does not answer must not take all
 * workers. */
static void look_up(struct git_clone *g)
{
    struct sockaddr_storage sa;
    struct ip ip;
    struct err err = {.code = 0};
    int rc = g->s->host.unsafe
                 ? fail(g, clone_error, "Repositories are not cloned without sandboxes.")
                 : split_url(g);
    if (rc == 0 && ip_parse(str_z(g->host), &ip)) {
        (void)ip_to(&ip, 0, &sa);
        pick_address(g, &sa, 1);
    } else if (rc == 0) {
        if (lookup_start(g->s->loop, g->host, on_looked_up, g, &err) == 0)
            return;
        fail(g, clone_error, "The host %.200s cannot be resolved: %s.", g->host, err.msg);
    }
    loop_work(g->s->loop, &g->work, prepare_work, prepared);
}

struct git_clone *git_clone_start(struct sandboxes *s, const char *session_id,
                                  const struct git_repository *repository,
                                  void (*done)(void *arg, const struct git_result *result),
                                  void *arg)
{
    struct git_clone *g = mem_zalloc(sizeof *g);
    g->s = s;
    g->session_id = id_from(str_z(session_id));
    g->r = repository;
    g->errors = g->out = g->token = g->use = g->recipe.args = -1;
    arena_init(&g->recipe.arena, 1);
    g->done = done;
    g->arg = arg;
    g->began_ms = g->logged_ms = loop_now_ms(s->loop);
    session_paths(&s->host, session_id, &g->paths);
    loop_timer_init(s->loop, &g->timer);
    sandboxes_job_began(s);
    log_line(LOG_INFO, "cloning a repository", "session", session_id, "url", repository->url, NULL);
    look_up(g);
    return g;
}

void git_clone_cancel(struct git_clone *g)
{
    g->cancelled = true;
    if (g->spawned)
        (void)loop_child_kill(&g->child, SIGKILL);
}
