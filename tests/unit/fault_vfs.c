#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault_vfs.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fault fault_vfs[FAULT_KINDS];

static char durable[64];
static sqlite3_vfs *below;

struct file {
    sqlite3_file base;
    const char *name; /* NULL for a temporary file; SQLite keeps it as long as the file is open */
    sqlite3_file real[]; /* the file of the VFS below */
};

static sqlite3_file *real(sqlite3_file *f)
{
    return ((struct file *)f)->real;
}

static const struct sqlite3_io_methods *under(sqlite3_file *f)
{
    return real(f)->pMethods;
}

static bool now(enum fault_kind kind)
{
    return fault_now(&fault_vfs[kind]);
}

/* ---- what survives ---- */

static bool durable_path(const char *name, char out[256])
{
    const char *slash = name ? strrchr(name, '/') : NULL;
    return durable[0] && slash && snprintf(out, 256, "%s%s", durable, slash) < 256;
}

static bool make_durable(const char *name)
{
    char path[256], piece[65536];
    if (!durable_path(name, path))
        return true;
    AUTO_FD int from = open(name, O_RDONLY | O_CLOEXEC);
    AUTO_FD int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n = -1;
    while (from >= 0 && to >= 0 && (n = read(from, piece, sizeof piece)) > 0)
        if (write(to, piece, (size_t)n) != n)
            return false;
    return n == 0;
}

/* ---- a file ---- */

static int x_close(sqlite3_file *f)
{
    return under(f)->xClose(real(f));
}

static int x_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    return now(FAULT_READ) ? SQLITE_IOERR_READ : under(f)->xRead(real(f), to, n, at);
}

static int x_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    if (!now(FAULT_WRITE))
        return under(f)->xWrite(real(f), from, n, at);
    (void)under(f)->xWrite(real(f), from, n / 2, at);
    return SQLITE_IOERR_WRITE;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return now(FAULT_TRUNCATE) ? SQLITE_IOERR_TRUNCATE : under(f)->xTruncate(real(f), size);
}

static int x_sync(sqlite3_file *f, int flags)
{
    (void)flags;
    if (now(FAULT_SYNC) || !make_durable(((struct file *)f)->name))
        return SQLITE_IOERR_FSYNC;
    return SQLITE_OK;
}

static int x_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return under(f)->xFileSize(real(f), out);
}

static int x_lock(sqlite3_file *f, int level)
{
    return under(f)->xLock(real(f), level);
}

static int x_unlock(sqlite3_file *f, int level)
{
    return under(f)->xUnlock(real(f), level);
}

static int x_reserved(sqlite3_file *f, int *out)
{
    return under(f)->xCheckReservedLock(real(f), out);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    return under(f)->xFileControl(real(f), op, arg);
}

static int x_sector(sqlite3_file *f)
{
    return under(f)->xSectorSize(real(f));
}

static int x_device(sqlite3_file *f)
{
    return under(f)->xDeviceCharacteristics(real(f));
}

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return now(FAULT_SHM) ? SQLITE_IOERR_SHMMAP
                          : under(f)->xShmMap(real(f), page, size, extend, out);
}

static int x_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return under(f)->xShmLock(real(f), at, n, flags);
}

static void x_shm_barrier(sqlite3_file *f)
{
    under(f)->xShmBarrier(real(f));
}

static int x_shm_unmap(sqlite3_file *f, int remove_it)
{
    return under(f)->xShmUnmap(real(f), remove_it);
}

static const struct sqlite3_io_methods methods = {
    .iVersion = 2, /* without memory-mapped reads, which could not be made to fail */
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_size,
    .xLock = x_lock,
    .xUnlock = x_unlock,
    .xCheckReservedLock = x_reserved,
    .xFileControl = x_control,
    .xSectorSize = x_sector,
    .xDeviceCharacteristics = x_device,
    .xShmMap = x_shm_map,
    .xShmLock = x_shm_lock,
    .xShmBarrier = x_shm_barrier,
    .xShmUnmap = x_shm_unmap,
};

/* ---- the file system ---- */

static int x_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    (void)v;
    struct file *file = (struct file *)f;
    file->base.pMethods = NULL;
    file->name = name;
    if (now(FAULT_OPEN))
        return SQLITE_CANTOPEN;
    int rc = below->xOpen(below, name, file->real, flags, out);
    if (file->real->pMethods)
        file->base.pMethods = &methods;
    return rc;
}

static int x_delete(sqlite3_vfs *v, const char *name, int sync_dir)
{
    (void)v;
    (void)sync_dir;
    char path[256];
    if (now(FAULT_DELETE))
        return SQLITE_IOERR_DELETE;
    if (durable_path(name, path))
        unlink(path);
    return below->xDelete(below, name, 0);
}

void fault_vfs_register(void)
{
    static sqlite3_vfs vfs;
    below = sqlite3_vfs_find(NULL);
    assert_non_null(below);
    vfs = *below;
    vfs.zName = "faulty";
    vfs.pNext = NULL;
    vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
    vfs.xOpen = x_open;
    vfs.xDelete = x_delete;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}

void fault_vfs_durable(const char *dir)
{
    durable[0] = '\0';
    if (dir)
        snprintf(durable, sizeof durable, "%s", dir);
}
