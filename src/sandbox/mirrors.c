#include "sandbox/mirrors.h"

#include "base/fd.h"
#include "base/limits.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char gone[] = ".gone-"; /* out of the way, to be removed */

static int join(char out[PATH_MAX], const char *dir, const char *lead, const char *name,
                const char *end)
{
    int n = snprintf(out, PATH_MAX, "%s/%s%s%s", dir, lead, name, end);
    return n > 0 && n < PATH_MAX ? 0 : -1;
}

static int open_file(const char *path)
{
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* Nobody else takes or removes any meanwhile; held for moments only. */
static int lock_all(const char *dir, struct err *err)
{
    char path[PATH_MAX];
    int fd = join(path, dir, ".", "lock", "") < 0 ? -1 : open_file(path);
    if (fd < 0)
        return err_sys(err, errno, "%s/.lock", dir);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR) {
            int sys = errno;
            fd_close(fd);
            return err_sys(err, sys, "%s/.lock", dir);
        }
    return fd;
}

static int make_mirror(const char *path, uid_t uid, struct err *err)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    if (chmod(path, 0755) < 0 || (uid && lchown(path, uid, uid) < 0))
        return err_sys(err, errno, "%s", path);
    return 0;
}

int mirror_take(const char *dir, const char *name, uid_t uid, int *use, struct err *err)
{
    char path[PATH_MAX], used[PATH_MAX];
    if (join(path, dir, "", name, ".git") < 0 || join(used, dir, "", name, ".use") < 0)
        return err_set(err, ERR_INVALID, "%s: the path is too long", dir);
    AUTO_FD int all = lock_all(dir, err);
    if (all < 0)
        return all;
    AUTO_FD int fd = open_file(used);
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0 || futimens(fd, NULL) < 0)
        return err_sys(err, errno, "%s", used);
    int rc = make_mirror(path, uid, err);
    if (rc == 0)
        *use = TAKE_FD(fd);
    return rc;
}

/* ---- removing ---- */

struct mirror {
    char name[NAME_MAX + 1];
    int64_t taken_ns;
    uint64_t bytes;
};

struct mirrors {
    struct mirror *at;
    size_t n, cap;
    uint64_t bytes;
};

static int by_age(const void *a, const void *b)
{
    const struct mirror *x = a, *y = b;
    return x->taken_ns < y->taken_ns ? -1 : x->taken_ns > y->taken_ns;
}

static void measure(const char *dir, const char *entry, struct mirrors *m)
{
    struct str name = str_z(entry);
    char path[PATH_MAX];
    struct stat st;
    if (entry[0] == '.' || !str_ends(name, STR(".git")) || name.len <= 4)
        return;
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 16;
        m->at = mem_realloc(m->at, m->cap * sizeof *m->at);
    }
    struct mirror *one = &m->at[m->n];
    *one = (struct mirror){.taken_ns = 0};
    str_copyz(one->name, sizeof one->name, str_take(name, name.len - 4));
    if (join(path, dir, "", one->name, ".use") == 0 && lstat(path, &st) == 0)
        one->taken_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
    if (join(path, dir, "", entry, "") < 0)
        return;
    one->bytes = tree_usage(path);
    m->bytes += one->bytes;
    m->n++;
}

/* What was put out of the way: by us, or by a server that was killed. */
static void clear_gone(const char *dir)
{
    char path[PATH_MAX];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (str_starts(str_z(e->d_name), str_z(gone)) && join(path, dir, "", e->d_name, "") == 0)
            (void)!tree_remove(path, NULL);
    if (d)
        closedir(d);
}

/* Puts it out of the way unless somebody has it. */
static bool put_away(const char *dir, const char *name)
{
    char path[PATH_MAX], used[PATH_MAX], to[PATH_MAX];
    struct err err;
    if (join(path, dir, "", name, ".git") < 0 || join(used, dir, "", name, ".use") < 0 ||
        join(to, dir, gone, name, "") < 0)
        return false;
    AUTO_FD int all = lock_all(dir, &err);
    AUTO_FD int fd = all < 0 ? -1 : open_file(used);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || rename(path, to) < 0)
        return false;
    unlink(used);
    return true;
}

void mirrors_prune(const char *dir, uint64_t max_bytes, int64_t now_s)
{
    struct mirrors m = {0};
    int64_t old_ns = (now_s - LIMIT_REPOSITORY_DAYS * INT64_C(86400)) * INT64_C(1000000000);
    clear_gone(dir);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        measure(dir, e->d_name, &m);
    if (d)
        closedir(d);
    if (m.n)
        qsort(m.at, m.n, sizeof *m.at, by_age);
    for (size_t i = 0; i < m.n && (m.bytes > max_bytes || m.at[i].taken_ns < old_ns); i++)
        if (put_away(dir, m.at[i].name))
            m.bytes -= m.at[i].bytes;
    mem_free(m.at);
    clear_gone(dir);
}
