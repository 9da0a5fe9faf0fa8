/* Blobs over system calls whose n-th fails. The link step puts the functions below between blob.c
 * and the C library (--wrap); what was synced is written down, and what was acknowledged must be
 * among it: the bytes, the name, and every directory on the way to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault.h"

#include "base/fd.h"
#include "store/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { OPEN, WRITE, READ, SYNC, MKDIR, LINK, KINDS };

static struct fault faults[KINDS];

/* Inodes whose bytes are durable, and "parent inode/name" of durable directory entries. */
enum { SEEN_MAX = 512 };
static ino_t synced[SEEN_MAX];
static size_t nsynced;
static struct entry {
    ino_t parent, inode;
} entries[SEEN_MAX];
static size_t nentries;

static char dir[64];

/* ---- what stands between ---- */

int __real_openat64(int at, const char *path, int flags, unsigned mode);
int __wrap_openat64(int at, const char *path, int flags, unsigned mode);
ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
int __wrap_fsync(int fd);
int __real_mkdirat(int at, const char *path, mode_t mode);
int __wrap_mkdirat(int at, const char *path, mode_t mode);
int __real_linkat(int at, const char *from, int to_at, const char *to, int flags);
int __wrap_linkat(int at, const char *from, int to_at, const char *to, int flags);

static bool fails(enum kind kind)
{
    errno = EIO;
    return fault_now(&faults[kind]);
}

int __wrap_openat64(int at, const char *path, int flags, unsigned mode)
{
    return fails(OPEN) ? -1 : __real_openat64(at, path, flags, mode);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (!fails(WRITE))
        return __real_write(fd, p, n);
    if (__real_write(fd, p, n / 2) < 0)
        abort();
    errno = ENOSPC;
    return -1;
}

ssize_t __wrap_read(int fd, void *p, size_t n)
{
    return fails(READ) ? -1 : __real_read(fd, p, n);
}

static void note_entries(int fd, ino_t parent)
{
    DIR *d = fdopendir(dup(fd));
    assert_non_null(d);
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d)) && nentries < SEEN_MAX;)
        entries[nentries++] = (struct entry){parent, e->d_ino};
    closedir(d);
}

int __wrap_fsync(int fd)
{
    struct stat st;
    if (fails(SYNC))
        return -1;
    assert_int_equal(fstat(fd, &st), 0);
    if (S_ISDIR(st.st_mode))
        note_entries(fd, st.st_ino);
    else if (nsynced < SEEN_MAX)
        synced[nsynced++] = st.st_ino;
    return 0;
}

int __wrap_mkdirat(int at, const char *path, mode_t mode)
{
    return fails(MKDIR) ? -1 : __real_mkdirat(at, path, mode);
}

int __wrap_linkat(int at, const char *from, int to_at, const char *to, int flags)
{
    return fails(LINK) ? -1 : __real_linkat(at, from, to_at, to, flags);
}

/* ---- checks ---- */

static ino_t inode_of(const char *below)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", dir, below);
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static bool entry_durable(const char *parent, const char *child)
{
    ino_t p = inode_of(parent), c = inode_of(child);
    for (size_t i = 0; i < nentries; i++)
        if (entries[i].parent == p && entries[i].inode == c)
            return true;
    return false;
}

static void assert_durable(const struct blob_id *id)
{
    char shard[16], path[96];
    bool bytes = false;
    snprintf(shard, sizeof shard, "/blobs/%.2s", id->z);
    snprintf(path, sizeof path, "%s/%s", shard, id->z + 2);
    for (size_t i = 0; i < nsynced; i++)
        bytes = bytes || synced[i] == inode_of(path);
    assert_true(bytes);
    assert_true(entry_durable("", "/blobs"));
    assert_true(entry_durable("/blobs", shard));
    assert_true(entry_durable(shard, path));
}

static void must_say(int rc, const struct err *err)
{
    assert_true(rc == ERR_IO || rc == ERR_NO_SPACE);
    assert_int_equal(err->code, rc);
    assert_true(err->msg[0] != '\0');
}

/* ---- one run ---- */

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void put(const struct blobs *b, struct str text)
{
    struct blob_id id;
    struct err err = {0};
    int rc = blob_put(b, text, &id, &err);
    if (rc) {
        must_say(rc, &err);
        rc = blob_put(b, text, &id, &err); /* clients repeat what failed */
    }
    if (rc)
        must_say(rc, &err);
    else
        assert_durable(&id);
}

static void put_file(const struct blobs *b)
{
    char path[96];
    struct blob_id id;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/source", dir);
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(__real_write(fd, "from a file", 11), 11);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    int rc = blob_put_fd(b, fd, 1 << 20, &id, NULL, &err);
    if (rc)
        must_say(rc, &err);
    else
        assert_durable(&id);
}

static void list_all(const struct blobs *b)
{
    for (unsigned shard = 0; shard < BLOB_SHARDS; shard += 85) {
        AUTO_ARENA struct arena a;
        struct blob_id *ids;
        struct err err = {0};
        size_t n;
        arena_init(&a, 1 << 20);
        int rc = blob_list(b, shard, &a, &ids, &n, &err);
        if (rc)
            must_say(rc, &err);
    }
}

static void run(void *arg)
{
    (void)arg;
    nsynced = nentries = 0;
    snprintf(dir, sizeof dir, "/tmp/ostler-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    struct blobs b;
    struct err err = {0};
    int rc = blobs_open(&b, dir, &err);
    if (rc) {
        must_say(rc, &err);
        err = (struct err){0};
        rc = blobs_open(&b, dir, &err);
    }
    if (rc) {
        must_say(rc, &err);
    } else {
        put(&b, STR("abc"));
        put(&b, STR("abc"));
        put(&b, STR("another"));
        put_file(&b);
        list_all(&b);
        blobs_close(&b);
    }
    nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static void what_is_acknowledged_is_durable_whatever_failed_before(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        long once = fault_each(&faults[kind], false, run, NULL, 200);
        long rest = fault_each(&faults[kind], true, run, NULL, 200);
        assert_true(once > 0 && rest > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_acknowledged_is_durable_whatever_failed_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
