/* One file or one directory of a workspace. The agent may be changing the tree at the same time and
 * may have planted links: the kernel resolves the path and refuses to leave the root. */
#include "sandbox/impl.h"

#include "base/fd.h"
#include "json/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIST_ENTRIES = 100000 };

/* "", "/", "/workspace", "a/b", "/workspace/a/b" */
int path_relative(struct str path, char out[PATH_MAX], struct err *err)
{
    if (path.len && memchr(path.ptr, '\0', path.len))
        return err_at(err, ERR_INVALID, "path", "path: contains a NUL character");
    if (str_eqz(path, "/workspace") || str_starts(path, STR("/workspace/")))
        path = str_skip(path, sizeof "/workspace" - 1);
    while (path.len && path.ptr[0] == '/')
        path = str_skip(path, 1);
    while (path.len && path.ptr[path.len - 1] == '/')
        path.len--;
    if (!str_copyz(out, PATH_MAX, path.len ? path : STR(".")))
        return err_at(err, ERR_INVALID, "path", "path: is longer than %d bytes", PATH_MAX - 1);
    return 0;
}

static int refused(const char *path, int sys, struct err *err)
{
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
        return err_at(err, ERR_NOT_FOUND, "path", "path: there is no '%s' in the workspace", path);
    case EXDEV:
    case ELOOP:
        return err_at(err, ERR_INVALID, "path", "path: '%s' leads out of the workspace", path);
    case ENXIO: /* a socket */
        return err_at(err, ERR_INVALID, "path", "path: '%s' is not a regular file", path);
    default: return err_sys(err, sys, "%s", path);
    }
}

static int open_beneath(const char *root, const char *path, int flags, int *ret_fd, struct err *err)
{
    AUTO_FD int dir = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return refused(path, errno, err);
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;
    /* A rename at the wrong moment makes the kernel unsure whether ".." stayed inside. */
    for (int i = 0; i < 100 && fd < 0; i++) {
        fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
        if (fd < 0 && errno != EAGAIN)
            return refused(path, errno, err);
    }
    if (fd < 0)
        return err_set(err, ERR_UNAVAILABLE, "the workspace is changing too fast");
    *ret_fd = (int)fd;
    return 0;
}

/* ---- a directory ---- */

static const char *type_of(mode_t mode)
{
    return S_ISREG(mode)   ? "file"
           : S_ISDIR(mode) ? "directory"
           : S_ISLNK(mode) ? "symlink"
                           : "other";
}

static void write_entry(struct jw *w, const char *parent, const char *name, const struct stat *st)
{
    char path[PATH_MAX + NAME_MAX + 2], mode[16];
    bool top = str_eqz(str_z(parent), ".");
    snprintf(path, sizeof path, "%s%s%s", top ? "" : parent, top ? "" : "/", name);
    snprintf(mode, sizeof mode, "%04o", st->st_mode & 07777);
    jw_obj(w);
    jw_kz(w, "path", path);
    jw_kz(w, "type", type_of(st->st_mode));
    jw_ki64(w, "size_bytes", st->st_size);
    jw_kz(w, "mode", mode);
    jw_obj_end(w);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return str_cmp(str_z(*x), str_z(*y));
}

static size_t read_names(DIR *d, char **names)
{
    size_t n = 0;
    struct dirent *e;
    while (n < LIST_ENTRIES && (e = readdir(d)))
        if (!str_eqz(str_z(e->d_name), ".") && !str_eqz(str_z(e->d_name), ".."))
            names[n++] = mem_dupz(e->d_name, strlen(e->d_name));
    qsort(names, n, sizeof *names, by_name);
    return n;
}

static int write_list(DIR *d, const char *path, int out, struct err *err)
{
    char **names = mem_alloc(sizeof *names * LIST_ENTRIES);
    size_t n = read_names(d, names);
    AUTO_BUF struct buf b = BUF_INIT((size_t)256 << 20);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        if (fstatat(dirfd(d), names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            write_entry(&w, path, names[i], &st);
        mem_free(names[i]);
    }
    mem_free(names);
    jw_arr_end(&w);
    jw_obj_end(&w);
    if (!buf_ok(&b))
        return err_set(err, ERR_TOO_LARGE, "the directory has too many entries to list");
    return fd_write_all(out, buf_view(&b), err);
}

int path_list(const char *root, struct str path, int out, struct err *err)
{
    char rel[PATH_MAX];
    int fd = -1;
    int rc = path_relative(path, rel, err);
    if (rc == 0 && str_eqz(str_z(rel), ".") && access(root, F_OK) < 0)
        return fd_write_all(out, STR("{\"data\":[]}"), err); /* nothing has been there yet */
    if (rc == 0)
        rc = open_beneath(root, rel, O_RDONLY | O_NONBLOCK, &fd, err);
    if (rc)
        return rc;
    struct stat st;
    DIR *d = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? fdopendir(fd) : NULL;
    if (!d) {
        fd_close(fd);
        return err_at(err, ERR_INVALID, "path", "path: '%s' is not a directory", rel);
    }
    rc = write_list(d, rel, out, err);
    closedir(d);
    return rc;
}

/* ---- a file ---- */

int path_read(const char *root, struct str path, int out, struct err *err)
{
    char rel[PATH_MAX], chunk[65536];
    AUTO_FD int fd = -1;
    int rc = path_relative(path, rel, err);
    if (rc == 0)
        rc = open_beneath(root, rel, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd, err);
    struct stat st;
    if (rc == 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
        rc = err_at(err, ERR_INVALID, "path", "path: '%s' is not a regular file", rel);
    while (rc == 0) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_sys(err, errno, "%s", rel);
        if (n <= 0)
            break;
        rc = fd_write_all(out, str_n(chunk, (size_t)n), err);
    }
    return rc;
}
