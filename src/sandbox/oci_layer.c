#include "sandbox/oci_layer.h"

#include "base/fd.h"
#include "sandbox/oci.h"
#include "sandbox/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <locale.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 65536, NAME_BYTES = 256, NOBODY = 65534 };

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

struct layer_in {
    int root; /* the new root */
    const char *root_path;
    struct archive *in;
    struct oci_unpacked *sum;
    bool whiteouts; /* the first pass: what lower layers lose */
    struct err *err;
};

/* ---- paths ---- */

static int open_in(const struct layer_in *l, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, l->root, path, &how, sizeof how);
}

/* The directory of an entry and its name in it; parents that are not there are made. -1: refused or
 * failed, said in err. `make` false: -1 without an error where it is not there. */
static int open_parent(const struct layer_in *l, const char *path, bool make, char name[NAME_BYTES])
{
    char at[PATH_MAX] = ".";
    struct str rest = str_z(path ? path : ""), part = STR_NONE;
    int dir = open_in(l, ".", O_PATH | O_DIRECTORY);
    name[0] = '\0';
    while (dir >= 0 && str_some(rest)) {
        struct str next = str_split(&rest, '/');
        if (!next.len || str_eqz(next, "."))
            continue;
        if (str_eqz(next, "..") || next.len >= NAME_BYTES ||
            strlen(at) + next.len + 2 > sizeof at) {
            fd_close(dir);
            (void)err_set(l->err, ERR_INVALID, "a layer's entry '%.150s' has '..' or is too long",
                          path);
            return -1;
        }
        if (part.len) { /* what came before is a directory */
            size_t n = strlen(at);
            snprintf(at + n, sizeof at - n, "/%s", name);
            int sub = open_in(l, at, O_PATH | O_DIRECTORY);
            if (sub < 0 && errno == ENOENT && make && mkdirat(dir, name, 0755) == 0)
                sub = open_in(l, at, O_PATH | O_DIRECTORY);
            fd_close(dir);
            dir = sub;
        }
        part = next;
        memcpy(name, next.ptr, next.len);
        name[next.len] = '\0';
    }
    if (dir < 0 && make)
        (void)err_sys(l->err, errno, "a layer's entry '%.150s'", path);
    return dir;
}

static int remove_at(const struct layer_in *l, int dir, const char *name)
{
    struct stat st;
    char path[PATH_MAX];
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(dir, name, 0) < 0 ? err_sys(l->err, errno, "%s", name) : 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
    return tree_remove(path, l->err);
}

/* ---- whiteouts ---- */

static int remove_all(const struct layer_in *l, int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    struct dirent *e;
    int rc = 0;
    if (!d) {
        fd_close(again);
        return 0;
    }
    while (rc == 0 && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = remove_at(l, dir, e->d_name);
    closedir(d);
    return rc;
}

static int apply_whiteout(const struct layer_in *l, const char *path)
{
    char name[NAME_BYTES];
    struct err refused = {.code = 0};
    struct layer_in quiet = *l;
    quiet.err = &refused;
    AUTO_FD int dir = open_parent(&quiet, path, false, name);
    if (dir < 0) {
        if (refused.code)
            *l->err = refused;
        return refused.code; /* of what is not there nothing can be removed */
    }
    if (strcmp(name, OPAQUE) == 0)
        return remove_all(l, dir);
    if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
        return 0;
    const char *gone = name + strlen(WHITEOUT);
    if (!*gone || strcmp(gone, ".") == 0 || strcmp(gone, "..") == 0)
        return err_set(l->err, ERR_INVALID, "a layer's whiteout '%.150s' names nothing", path);
    return remove_at(l, dir, gone);
}

static bool is_whiteout(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, WHITEOUT, strlen(WHITEOUT)) == 0;
}

/* ---- entries ---- */

static int in_failed(const struct layer_in *l)
{
    const char *text = archive_error_string(l->in);
    return err_set(l->err, ERR_INVALID, "a layer is no readable tar: %s",
                   text ? text : "unknown error");
}

static uid_t inside_id(int64_t id)
{
    return id >= 0 && id < OCI_IDS - 1 ? (uid_t)id : NOBODY;
}

static int write_data(const struct layer_in *l, int fd)
{
    char block[BLOCK];
    la_ssize_t n;
    while ((n = archive_read_data(l->in, block, sizeof block)) > 0) {
        l->sum->bytes += (uint64_t)n;
        if (l->sum->bytes > OCI_IMAGE_BYTES)
            return err_set(l->err, ERR_TOO_LARGE, "the image holds more than %" PRIu64 " GB",
                           OCI_IMAGE_BYTES >> 30);
        int rc = fd_write_all(fd, str_n(block, (size_t)n), l->err);
        if (rc)
            return rc;
    }
    return n < 0 ? in_failed(l) : 0;
}

static int make_file(const struct layer_in *l, struct archive_entry *e, int dir, const char *name)
{
    int rc = remove_at(l, dir, name);
    if (rc)
        return rc;
    AUTO_FD int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(l->err, errno, "%s", name);
    rc = write_data(l, fd);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = archive_entry_mtime(e)}};
    if (rc == 0 && (fchown(fd, inside_id(archive_entry_uid(e)), inside_id(archive_entry_gid(e))) ||
                    fchmod(fd, archive_entry_perm(e) & 0777) || futimens(fd, times)))
        rc = err_sys(l->err, errno, "%s", name);
    return rc;
}

static int make_dir(const struct layer_in *l, struct archive_entry *e, int dir, const char *name)
{
    struct stat st;
    const char *at = name[0] ? name : "."; /* the root itself */
    bool there = fstatat(dir, at, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !S_ISDIR(st.st_mode)) {
        int rc = remove_at(l, dir, at);
        if (rc)
            return rc;
        there = false;
    }
    if (!there && mkdirat(dir, at, 0755) < 0)
        return err_sys(l->err, errno, "%s", at);
    AUTO_FD int fd = openat(dir, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 ||
        fchown(fd, inside_id(archive_entry_uid(e)), inside_id(archive_entry_gid(e))) < 0 ||
        fchmod(fd, archive_entry_perm(e) & 03777) < 0)
        return err_sys(l->err, errno, "%s", at);
    return 0;
}

static int make_symlink(const struct layer_in *l, struct archive_entry *e, int dir,
                        const char *name)
{
    const char *target = archive_entry_symlink(e);
    int rc = remove_at(l, dir, name);
    if (rc)
        return rc;
    if (!target || symlinkat(target, dir, name) < 0 ||
        fchownat(dir, name, inside_id(archive_entry_uid(e)), inside_id(archive_entry_gid(e)),
                 AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(l->err, errno, "%s", name);
    return 0;
}

static int make_link(const struct layer_in *l, const char *target, int dir, const char *name)
{
    char to[NAME_BYTES];
    struct stat st;
    AUTO_FD int from = open_parent(l, target, true, to);
    if (from < 0)
        return l->err->code;
    if (fstatat(from, to, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
        return err_set(l->err, ERR_INVALID, "a layer links to '%.150s', which is no file in it",
                       target);
    struct stat same;
    if (fstatat(dir, name, &same, AT_SYMLINK_NOFOLLOW) == 0 && same.st_ino == st.st_ino &&
        same.st_dev == st.st_dev)
        return 0;
    int rc = remove_at(l, dir, name);
    if (rc == 0 && linkat(from, to, dir, name, 0) < 0)
        rc = err_sys(l->err, errno, "%s", name);
    return rc;
}

static int apply_entry(const struct layer_in *l, struct archive_entry *e)
{
    char name[NAME_BYTES];
    const char *path = archive_entry_pathname(e), *link = archive_entry_hardlink(e);
    if (!path)
        return err_set(l->err, ERR_INVALID, "a layer has an entry without a name");
    if (++l->sum->entries > OCI_IMAGE_ENTRIES * 2)
        return err_set(l->err, ERR_TOO_LARGE, "the image has more than %d entries",
                       OCI_IMAGE_ENTRIES);
    uint64_t size = archive_entry_size(e) > 0 ? (uint64_t)archive_entry_size(e) : 0;
    if (size > OCI_IMAGE_BYTES)
        return err_set(l->err, ERR_TOO_LARGE, "the image holds more than %" PRIu64 " GB",
                       OCI_IMAGE_BYTES >> 30);
    if (l->whiteouts || is_whiteout(path))
        return l->whiteouts && is_whiteout(path) ? apply_whiteout(l, path) : 0;
    mode_t type = archive_entry_filetype(e);
    if (!link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return 0;
    AUTO_FD int dir = open_parent(l, path, true, name);
    if (dir < 0)
        return l->err->code;
    if (!name[0] && type != AE_IFDIR)
        return err_set(l->err, ERR_INVALID, "a layer's root is no directory");
    if (link)
        return make_link(l, link, dir, name);
    return type == AE_IFREG   ? make_file(l, e, dir, name)
           : type == AE_IFDIR ? make_dir(l, e, dir, name)
                              : make_symlink(l, e, dir, name);
}

/* ---- passes ---- */

static int pass(struct layer_in *l, int fd)
{
    struct archive_entry *e;
    int r, rc = 0;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(l->err, errno, "a layer");
    l->in = archive_read_new();
    if (!l->in)
        return err_set(l->err, ERR_INTERNAL, "libarchive");
    archive_read_support_format_tar(l->in);
    archive_read_support_filter_gzip(l->in);
    archive_read_support_filter_zstd(l->in);
    if (archive_read_open_fd(l->in, fd, BLOCK) != ARCHIVE_OK)
        rc = in_failed(l);
    while (rc == 0 && (r = archive_read_next_header(l->in, &e)) != ARCHIVE_EOF)
        if (r != ARCHIVE_RETRY)
            rc = r < ARCHIVE_WARN ? in_failed(l) : apply_entry(l, e);
    archive_read_free(l->in);
    return rc;
}

static int check_digest(int fd, const char *hex, struct err *err)
{
    crypto_hash_sha256_state h;
    unsigned char block[BLOCK], sum[crypto_hash_sha256_BYTES];
    char is[crypto_hash_sha256_BYTES * 2 + 1];
    ssize_t n;
    crypto_hash_sha256_init(&h);
    while ((n = read(fd, block, sizeof block)) > 0)
        crypto_hash_sha256_update(&h, block, (size_t)n);
    if (n < 0)
        return err_sys(err, errno, "a layer");
    crypto_hash_sha256_final(&h, sum);
    sodium_bin2hex(is, sizeof is, sum, sizeof sum);
    return str_eqz(str_z(is), hex)
               ? 0
               : err_set(err, ERR_INVALID, "the blob sha256:%s has another digest: sha256:%s", hex,
                         is);
}

int oci_layer_unpack(int fd, const char *hex, const char *root, struct oci_unpacked *sum,
                     struct err *err)
{
    /* libarchive converts names by the locale; in the C locale it would lose them. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    AUTO_FD int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct layer_in l = {.root = dir, .root_path = root, .sum = sum, .whiteouts = true, .err = err};
    int rc = dir < 0 ? err_sys(err, errno, "%s", root) : check_digest(fd, hex, err);
    rc = rc ? rc : pass(&l, fd);
    l.whiteouts = false;
    rc = rc ? rc : pass(&l, fd);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return rc;
}

int oci_layer_check(const char *root, struct err *err)
{
    AUTO_FD int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct layer_in l = {.root = dir};
    AUTO_FD int bash = dir < 0 ? -1 : open_in(&l, "bin/bash", O_PATH);
    return bash >= 0 ? 0
                     : err_set(err, ERR_INVALID,
                               "the image has no /bin/bash, which the tools need; add it");
}
