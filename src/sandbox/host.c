/* Directories on the host, and the record by which a hand is found again. */
#include "sandbox/impl.h"

#include "base/fd.h"
#include "json/decode.h"
#include "json/writer.h"
#include "sandbox/spare.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    UNIT_HASH = 9 /* "-" and eight digits */,
    RECORD_MAX = 65536,
    RECORD_SIZE = 2048,
    HAND_SHUTDOWN_MS = 2000
};

/* ---- a session's directories ---- */

/* FNV-1a: the same in every process. */
static uint32_t hash_of(const char *z)
{
    uint32_t h = 2166136261u;
    for (; *z; z++)
        h = (h ^ (unsigned char)*z) * 16777619u;
    return h;
}

void session_paths(const struct host *h, const char *session_id, struct session_paths *out)
{
    snprintf(out->dir, sizeof out->dir, "%s/%s", h->dir, session_id);
    struct {
        char *to;
        const char *name;
    } const parts[] = {{out->workspace, "workspace"}, {out->tmp, "tmp"},
                       {out->home, "home"},           {out->outputs, "outputs"},
                       {out->uploads, "uploads"},     {out->skills, "skills"},
                       {out->base, "base.git"},       {out->meta, "sandbox.json"},
                       {out->root, "root"},           {out->bundle, "oci"}};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        snprintf(parts[i].to, PATH_MAX, "%s/%s", out->dir, parts[i].name);
    snprintf(out->unit, sizeof out->unit, "%s-%08" PRIx32, session_id, hash_of(h->dir));
    /* Two sessions hardly ever share a user, so that one sandbox can do nothing to another even
     * where a namespace leaks. */
    out->uid = h->root ? (uid_t)(UID_BASE + hash_of(session_id) % UID_COUNT) : 0;
    out->oci = h->oci.on && !h->unsafe;
    if (out->oci)
        out->uid = (uid_t)(OCI_FIRST_ID + hash_of(session_id) % OCI_SLOTS * OCI_IDS);
    /* What was made before there was a session has the user that it was made for. */
    struct stat st;
    if (h->root && !out->oci && lstat(out->workspace, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid >= UID_BASE && st.st_uid - UID_BASE < UID_COUNT)
        out->uid = st.st_uid;
}

bool unit_is_ours(const struct session_paths *p, const char *unit)
{
    size_t len = strlen(unit), all = strlen(p->unit);
    if (strcmp(unit, p->unit) == 0)
        return true;
    return str_starts(str_z(unit), STR(SPARE_PREFIX)) && len > UNIT_HASH && all > UNIT_HASH &&
           strcmp(unit + len - UNIT_HASH, p->unit + all - UNIT_HASH) == 0;
}

static int own_dir(const char *path, uid_t uid, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    struct stat st;
    if (lstat(path, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s is not a directory", path);
    if (uid && st.st_uid != uid && lchown(path, uid, uid) < 0)
        return err_sys(err, errno, "cannot give %s to user %u", path, (unsigned)uid);
    return 0;
}

int session_prepare(const struct session_paths *p, struct err *err)
{
    bool fresh = mkdir(p->dir, 0700) == 0;
    int rc = fresh ? 0 : fd_mkdirs(p->dir, 0700, err);
    /* With it a later start can tell "no hand yet" from "the record is lost". */
    if (rc == 0 && fresh)
        rc = record_write(p->meta, &(struct sandbox_record){.generation = 0}, err);
    const char *const dirs[] = {p->workspace, p->tmp, p->home, p->outputs};
    for (size_t i = 0; i < COUNT_OF(dirs) && rc == 0; i++)
        rc = own_dir(dirs[i], p->uid, 0755, err);
    rc = rc ? rc : own_dir(p->uploads, 0, 0755, err);
    if (rc || !p->oci)
        return rc;
    if (chmod(p->tmp, 01777) < 0) /* for all of its users */
        return err_sys(err, errno, "%s", p->tmp);
    return oci_prepare(&(struct oci_dirs){p->root, p->bundle}, p->uid, err);
}

/* ---- the record ---- */

static void copy_text(const struct json *doc, const char *key, char *out, size_t cap)
{
    if (!str_copyz(out, cap, json_get_str(doc, key)))
        out[0] = '\0';
}

bool record_read(const char *path, struct sandbox_record *out)
{
    *out = (struct sandbox_record){.pid = 0};
    AUTO_BUF struct buf text = BUF_INIT(RECORD_MAX);
    AUTO_ARENA struct arena a;
    arena_init(&a, RECORD_MAX * 8);
    const struct json *doc;
    if (fd_read_file(path, &text, NULL) != 0 || json_parse(&a, buf_view(&text), 0, &doc, NULL) != 0)
        return false;
    copy_text(doc, "boot_id", out->boot_id, sizeof out->boot_id);
    copy_text(doc, "unit", out->unit, sizeof out->unit);
    copy_text(doc, "socket", out->socket, sizeof out->socket);
    copy_text(doc, "layer", out->layer, sizeof out->layer);
    (void)json_i64(json_get(doc, "inode"), &out->inode);
    return json_i64(json_get(doc, "generation"), &out->generation) &&
           json_i64(json_get(doc, "pid"), &out->pid) &&
           json_i64(json_get(doc, "start_time"), &out->start_time);
}

/* Atomic, but not synced: the record is about processes of this boot and means nothing after it. */
static int replace_file(const char *path, struct str data, struct err *err)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp)
        return err_set(err, ERR_INVALID, "the path is too long: %s", path);
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", tmp);
    int rc = fd_write_all(fd, data, err);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

int record_write(const char *path, const struct sandbox_record *r, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(RECORD_MAX);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_ki64(&w, "version", 1);
    jw_kz(&w, "boot_id", r->boot_id);
    jw_kz(&w, "unit", r->unit);
    jw_kz(&w, "socket", r->socket);
    jw_kz(&w, "layer", r->layer);
    jw_ki64(&w, "pid", r->pid);
    jw_ki64(&w, "start_time", r->start_time);
    jw_ki64(&w, "generation", r->generation);
    jw_ki64(&w, "inode", r->inode);
    jw_obj_end(&w);
    jw_done(&w);
    /* Written over the old one at once, to one size: renaming a new file over an old one makes some
     * file systems write it out first. A process that is killed leaves one or the other. */
    while (b.len < RECORD_SIZE - 1)
        buf_ch(&b, ' ');
    buf_ch(&b, '\n');
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    return fd_write_all(fd, buf_view(&b), err);
}

static void unit_path(const struct host *h, const char *unit,
                      char out[sizeof h->run_dir + ID_MAX + 42])
{
    snprintf(out, sizeof h->run_dir + ID_MAX + 42, "%s/%s", h->run_dir, unit);
}

bool record_of_lost(const struct host *h, const struct session_paths *p, struct sandbox_record *out)
{
    char path[sizeof h->run_dir + sizeof p->unit + 2], unit[sizeof p->unit];
    struct stat st;
    unit_path(h, p->unit, path);
    *out = (struct sandbox_record){.generation = 2}; /* it may not be the first */
    ssize_t n = readlink(path, unit, sizeof unit - 1);
    unit[n > 0 ? n : 0] = '\0';
    if (n <= 0 || !unit_is_ours(p, unit) || strchr(unit, '/'))
        memcpy(unit, p->unit, sizeof unit);
    unit_path(h, unit, path);
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    memcpy(out->boot_id, h->boot_id, sizeof out->boot_id);
    memcpy(out->unit, unit, sizeof out->unit);
    return str_copyz(out->socket, sizeof out->socket, str_z(path));
}

void record_hint(const struct host *h, const struct session_paths *p, const char *unit)
{
    char path[sizeof h->run_dir + sizeof p->unit + 2];
    if (unit && strcmp(unit, p->unit) == 0)
        return;
    unit_path(h, p->unit, path);
    unlink(path);
    if (unit)
        (void)!symlink(unit, path);
}

void hand_shutdown(const char *socket_path)
{
    static const char frame[] = "\0\0\0\x11{\"op\":\"shutdown\"}";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !str_copyz(a.sun_path, sizeof a.sun_path, str_z(socket_path)) ||
        connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        send(fd, frame, sizeof frame - 1, MSG_NOSIGNAL) < 0)
        return;
    /* It says hello before it goes. */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char said[4096];
    while (poll(&p, 1, HAND_SHUTDOWN_MS) > 0 && read(fd, said, sizeof said) > 0)
        ;
}

int64_t process_start_time(int64_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    AUTO_FD int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    struct str rest = p ? str_z(p + 2) : STR_NONE; /* field 3 begins there */
    struct str field = STR_NONE;
    for (int i = 3; i <= 22 && str_some(rest); i++)
        field = str_split(&rest, ' ');
    int64_t start;
    return str_i64(field, &start) ? start : 0;
}

void process_kill(int64_t pid, int64_t start_time)
{
    if (pid < 2 || start_time == 0)
        return;
    /* The descriptor first: from then on the number cannot come to mean another process. */
    AUTO_FD int fd = pidfd_open((pid_t)pid, 0);
    if (fd >= 0 && process_start_time(pid) == start_time)
        (void)pidfd_send_signal(fd, SIGKILL, NULL, 0);
}

/* ---- the host ---- */

static bool usable_dir(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return false;
    /* Somebody else's directory in /tmp would let them answer for our hands. */
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0 && access(path, W_OK) == 0;
}

static int choose_run_dir(struct host *h, struct err *err)
{
    enum { ROOM = BOX_SOCKET_MAX - 52 }; /* for a name in it */
    if (h->run_dir[0]) {
        int rc = fd_mkdirs(h->run_dir, 0700, err);
        if (rc)
            return rc;
        if (strlen(h->run_dir) > ROOM)
            return err_at(err, ERR_INVALID, "run_dir",
                          "the runtime directory's path is longer than "
                          "%d bytes: sockets would not fit",
                          ROOM);
        return usable_dir(h->run_dir)
                   ? 0
                   : err_at(err, ERR_INVALID, "run_dir",
                            "%s must be a directory of ours with mode 0700", h->run_dir);
    }
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    for (int i = 0; i < 3; i++) {
        int n = i == 0   ? snprintf(h->run_dir, sizeof h->run_dir, "%s/ostler", xdg ? xdg : "")
                : i == 1 ? snprintf(h->run_dir, sizeof h->run_dir, "/run/ostler")
                         : snprintf(h->run_dir, sizeof h->run_dir, "/tmp/ostler-%u",
                                    (unsigned)geteuid());
        if (i == 0 && (!xdg || xdg[0] != '/'))
            continue;
        if (n > 0 && n <= ROOM && usable_dir(h->run_dir))
            return 0;
    }
    return err_set(err, ERR_IO,
                   "no directory for sockets: set run_dir to one that only we can enter");
}

/* What programs need of /etc and what says nothing about this host is copied, the rest made up: one
 * directory, because every mount makes the start of a sandbox slower. */
static int copy_etc(struct host *h, struct err *err)
{
    static const char *const shown[] = {
        "/etc/alternatives",   "/etc/ld.so.cache",     "/etc/ld.so.conf", "/etc/ld.so.conf.d",
        "/etc/ssl/certs",      "/etc/ssl/openssl.cnf", "/etc/localtime",  "/etc/mime.types",
        "/etc/services",       "/etc/protocols",       "/etc/os-release", "/etc/debian_version",
        "/etc/inputrc",        "/etc/terminfo",        "/etc/fonts",      "/etc/magic",
        "/etc/java-*-openjdk", "/etc/python3*",        "/etc/perl",       "/etc/locale.alias",
        "/etc/maven",          "/etc/ImageMagick-*",
    };
    char to[PATH_MAX];
    snprintf(to, sizeof to, "%s/ssl", h->etc);
    int rc = fd_mkdirs(to, 0755, err);
    if (rc == 0 && (chmod(h->etc, 0755) < 0 || chmod(to, 0755) < 0)) /* whatever our umask is */
        rc = err_sys(err, errno, "%s", h->etc);
    for (size_t i = 0; i < COUNT_OF(shown) && rc == 0; i++) {
        glob_t g;
        if (glob(shown[i], GLOB_NOSORT, NULL, &g) != 0)
            continue;
        for (size_t k = 0; k < g.gl_pathc && rc == 0; k++) {
            snprintf(to, sizeof to, "%s%s", h->etc, g.gl_pathv[k] + strlen("/etc"));
            rc = tree_copy(g.gl_pathv[k], to, err);
        }
        globfree(&g);
    }
    return rc;
}

static int write_etc(struct host *h, struct err *err)
{
    static const char *const files[][2] = {
        {"passwd",
         "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n"
         "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
        {"group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"},
        {"hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"},
        {"hostname", "sandbox\n"},
        {"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
        {"resolv.conf", "# there is no network\n"},
    };
    snprintf(h->etc, sizeof h->etc, "%s/.etc", h->dir);
    int rc = copy_etc(h, err);
    for (size_t i = 0; i < COUNT_OF(files) && rc == 0; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", h->etc, files[i][0]);
        AUTO_BUF struct buf old = BUF_INIT(65536);
        if (fd_read_file(path, &old, NULL) == 0 && str_eqz(buf_view(&old), files[i][1]))
            continue;
        rc = replace_file(path, str_z(files[i][1]), err);
        if (rc == 0 && chmod(path, 0644) < 0)
            rc = err_sys(err, errno, "%s", path);
    }
    return rc;
}

/* Several servers may start on one data directory at a time. */
static int prepare_etc(struct host *h, struct err *err)
{
    char path[PATH_MAX];
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    snprintf(path, sizeof path, "%s/.etc.lock", h->dir);
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fcntl(fd, F_OFD_SETLKW, &fl) < 0)
        return err_sys(err, errno, "%s", path);
    return write_etc(h, err);
}

int host_prepare(struct host *h, struct err *err)
{
    int rc = fd_mkdirs(h->dir, 0700, err);
    if (rc == 0)
        rc = choose_run_dir(h, err);
    snprintf(h->oci.state, sizeof h->oci.state, "%s/oci", h->run_dir);
    if (rc == 0)
        rc = prepare_etc(h, err);
    if (rc == 0 && h->oci.on && !h->unsafe) {
        snprintf(h->oci.made, sizeof h->oci.made, "%s", h->etc);
        rc = oci_host_root(h->dir, h->etc, h->oci.base, err);
    }
    if (rc)
        return rc;
    past_sweep(h);
    AUTO_BUF struct buf id = BUF_INIT(256);
    if (fd_read_file("/proc/sys/kernel/random/boot_id", &id, NULL) == 0)
        (void)str_copyz(h->boot_id, sizeof h->boot_id, str_trim(buf_view(&id)));
    return 0;
}

int host_tmpfile(const struct host *h, struct err *err)
{
    int fd = open(h->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.tmp-XXXXXX", h->dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        (void)err_sys(err, errno, "%s", path);
        return -1;
    }
    unlink(path);
    return fd;
}

int host_seccomp(const struct host *h)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", h->seccomp);
    return open(path, O_RDONLY | O_CLOEXEC);
}
