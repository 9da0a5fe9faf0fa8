/* doctor: the data directory, its file system, the database, who runs on it. */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cli/lock.h"
#include "store/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { FSYNCS = 7, FSYNC_SLOW_US = 30 * 1000 };
#define SPACE_LOW ((uint64_t)1 << 30)
#define SPACE_NONE ((uint64_t)64 << 20)

/* ---- where ---- */

/* The data directory itself, or what is there of the path to it. */
static void find_place(struct doctor *d)
{
    (void)str_copyz(d->place, sizeof d->place, str_z(d->config.data));
    struct stat st;
    d->data_exists = stat(d->place, &st) == 0;
    while (stat(d->place, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        char *slash = strrchr(d->place, '/');
        if (!slash)
            (void)str_copyz(d->place, sizeof d->place, STR("."));
        else if (slash == d->place)
            d->place[1] = '\0';
        else
            *slash = '\0';
        if (!slash)
            return;
    }
}

/* False with errno: nothing can be made there. A read-only mount is told by trying only. */
static bool make_scratch(struct doctor *d, const char *below)
{
    char path[DOCTOR_PATH];
    if (snprintf(path, sizeof path, "%s/.ostler-doctor-XXXXXX", below) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (!mkdtemp(path))
        return false;
    /* The sandbox's mounts need a path that does not depend on where we stand. */
    char *full = realpath(path, NULL);
    (void)str_copyz(d->scratch, sizeof d->scratch, str_z(full ? full : path));
    free(full);
    return true;
}

static void check_owner(struct doctor *d, const struct stat *st)
{
    if (st->st_uid == geteuid())
        return;
    struct doctor_check *c =
        doctor_add(d, "user", DOCTOR_WARN, "this is user %u, the data directory belongs to user %u",
                   (unsigned)geteuid(), (unsigned)st->st_uid);
    doctor_fact_i64(c, "uid", geteuid());
    doctor_fact_i64(c, "owner_uid", st->st_uid);
    doctor_remedy(c,
                  "ask as the user who runs the server, for example with setpriv --reuid=%u "
                  "--clear-groups ostler doctor: what works for one need not work for the other",
                  (unsigned)st->st_uid);
}

static void check_dir(struct doctor *d, int sys)
{
    struct stat st = {.st_mode = 0};
    struct doctor_check *c;
    const char *data = d->config.data;
    bool there = stat(d->place, &st) == 0;
    if (!there || !S_ISDIR(st.st_mode)) {
        c = doctor_add(d, "data", DOCTOR_FAIL, "%s: %s", d->place,
                       there ? "is not a directory" : strerror(errno));
        doctor_remedy(c, "choose another data directory with --data DIR");
    } else if (!d->data_writable) {
        c = doctor_add(d, "data", DOCTOR_FAIL, "%s cannot be written: %s", d->place, strerror(sys));
        doctor_remedy(
            c,
            "give the directory to the user who runs the server (user %u asks), mount its "
            "file system writable, or choose another with --data DIR",
            (unsigned)geteuid());
    } else if (!d->data_exists) {
        c = doctor_add(d, "data", DOCTOR_OK, "%s is not there yet; it can be made below %s", data,
                       d->place);
    } else if (st.st_mode & 077) {
        c = doctor_add(d, "data", DOCTOR_WARN, "%s is writable, but others may enter it (mode %o)",
                       data, (unsigned)(st.st_mode & 07777));
        doctor_remedy(c, "chmod 700 %s", data);
    } else {
        c = doctor_add(d, "data", DOCTOR_OK, "%s is writable", data);
    }
    doctor_fact_str(c, "path", data);
    doctor_fact_bool(c, "exists", d->data_exists);
    doctor_fact_bool(c, "writable", d->data_writable);
    if (d->data_exists && there)
        check_owner(d, &st);
}

/* ---- the disk ---- */

static void check_space(struct doctor *d)
{
    struct statvfs v;
    if (statvfs(d->place, &v) < 0)
        return;
    uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    bool few = v.f_files > 0 && v.f_favail < 10000;
    enum doctor_state state = free_bytes < SPACE_NONE         ? DOCTOR_FAIL
                              : few || free_bytes < SPACE_LOW ? DOCTOR_WARN
                                                              : DOCTOR_OK;
    struct doctor_check *c = doctor_add(d, "disk.space", state, "%.1f GiB free%s",
                                        (double)free_bytes / (double)((uint64_t)1 << 30),
                                        few ? ", and hardly any inodes" : "");
    doctor_fact_i64(c, "free_bytes", (int64_t)free_bytes);
    doctor_fact_i64(c, "free_inodes", v.f_files ? (int64_t)v.f_favail : -1);
    if (state != DOCTOR_OK)
        doctor_remedy(c, "free some space, or choose another data directory with --data DIR; one "
                         "sandbox may fill what sandbox.disk_mb allows");
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The middle one of several; -1 with errno. */
static int64_t fsync_us(const char *dir)
{
    char path[DOCTOR_PATH + 16], block[4096] = {0};
    int64_t took[FSYNCS];
    snprintf(path, sizeof path, "%s/fsync", dir);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    for (int i = 0; i < FSYNCS; i++) {
        int64_t began_us = clock_mono_us();
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) < 0)
            return -1;
        took[i] = clock_mono_us() - began_us;
    }
    qsort(took, FSYNCS, sizeof took[0], by_size);
    return took[FSYNCS / 2];
}

static void check_fsync(struct doctor *d)
{
    int64_t us = fsync_us(d->scratch);
    if (us < 0) {
        struct doctor_check *c = doctor_add(d, "disk.fsync", DOCTOR_FAIL,
                                            "a file cannot be synced: %s", strerror(errno));
        doctor_remedy(c, "choose a data directory on another file system with --data DIR");
        return;
    }
    struct doctor_check *c =
        doctor_add(d, "disk.fsync", us > FSYNC_SLOW_US ? DOCTOR_WARN : DOCTOR_OK,
                   "%.2f ms for 4 KiB, the middle of %d; each acknowledgement waits for one",
                   (double)us / 1e3, FSYNCS);
    doctor_fact_i64(c, "fsync_us", us);
    if (us > FSYNC_SLOW_US)
        doctor_remedy(c, "a faster disk would make every step of a turn faster");
}

static void check_kind(struct doctor *d)
{
    static const struct {
        uint32_t magic;
        const char *name, *trouble;
    } known[] = {
        {0x6969, "nfs", "locks and syncing cannot be relied on"},
        {0xff534d42, "cifs", "locks and syncing cannot be relied on"},
        {0xfe534d42, "smb2", "locks and syncing cannot be relied on"},
        {0x517b, "smb", "locks and syncing cannot be relied on"},
        {0x00c36400, "ceph", "locks and syncing cannot be relied on"},
        {0x01021997, "9p", "locks and syncing cannot be relied on"},
        {0x01021994, "tmpfs", "it is gone when the host restarts"},
        {0x858458f6, "ramfs", "it is gone when the host restarts"},
        {0xef53, "ext4", NULL},
        {0x58465342, "xfs", NULL},
        {0x9123683e, "btrfs", NULL},
        {0x2fc12fc1, "zfs", NULL},
        {0x794c7630, "overlay", NULL},
        {0xf2f52010, "f2fs", NULL},
    };
    struct statfs s;
    if (statfs(d->place, &s) < 0)
        return;
    const char *name = NULL, *trouble = NULL;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i].magic == (uint32_t)s.f_type) {
            name = known[i].name;
            trouble = known[i].trouble;
        }
    }
    struct doctor_check *c = doctor_add(d, "disk.kind", trouble ? DOCTOR_WARN : DOCTOR_OK, "%s%s%s",
                                        name ? name : "a file system without known trouble",
                                        trouble ? ": " : "", trouble ? trouble : "");
    doctor_fact_str(c, "type", name);
    doctor_fact_i64(c, "magic", (int64_t)(uint32_t)s.f_type);
    if (trouble)
        doctor_remedy(c, "put the data directory on a local disk with --data DIR");
}

/* ---- the database ---- */

static const char *version_says(const struct store_report *r)
{
    return r->schema < r->known_schema ? "; the next start migrates it"
           : r->schema > r->known_schema
               ? "; it was written by a newer ostler, this one cannot use it"
               : "";
}

static void add_database(struct doctor *d, const struct store_report *r)
{
    bool newer = r->schema > r->known_schema;
    struct doctor_check *c = doctor_add(
        d, "database", newer || r->damage[0] ? DOCTOR_FAIL : DOCTOR_OK,
        "%s%.200sschema %" PRId64 " of %" PRId64 "%s, %.1f MiB", r->damage[0] ? "damaged: " : "",
        r->damage[0] ? r->damage : "", r->schema, r->known_schema, version_says(r),
        (double)(r->size_bytes + r->wal_bytes) / (1 << 20));
    doctor_fact_i64(c, "schema", r->schema);
    doctor_fact_i64(c, "known_schema", r->known_schema);
    doctor_fact_i64(c, "size_bytes", r->size_bytes);
    doctor_fact_i64(c, "wal_bytes", r->wal_bytes);
    doctor_fact_i64(c, "sessions", r->sessions);
    doctor_fact_bool(c, "checked", d->deep);
    if (newer)
        doctor_remedy(c, "use that version of ostler, or another data directory");
    else if (r->damage[0])
        doctor_remedy(c, "stop the server, keep a copy of the directory, and restore a backup "
                         "(docs/operations.md)");
}

static void check_database(struct doctor *d)
{
    struct store_report r;
    struct err err = {0};
    if (!d->data_exists)
        return;
    if (store_inspect(d->config.data, d->deep, &r, &err)) {
        struct doctor_check *c = doctor_add(d, "database", DOCTOR_FAIL, "%s", err.msg);
        doctor_remedy(c, "restore a backup, or choose another data directory with --data DIR");
    } else if (!r.exists) {
        struct doctor_check *c =
            doctor_add(d, "database", DOCTOR_OK, "none yet; the first start makes it");
        doctor_fact_i64(c, "known_schema", r.known_schema);
    } else {
        add_database(d, &r);
    }
}

void doctor_data(struct doctor *d)
{
    const char *tmp = config_env("TMPDIR");
    find_place(d);
    d->data_writable = make_scratch(d, d->place);
    check_dir(d, errno);
    if (d->data_writable)
        check_fsync(d);
    check_space(d);
    check_kind(d);
    check_database(d);
    /* The sandbox can be tried elsewhere; the first of both says what is wrong. */
    if (!d->data_writable && !make_scratch(d, tmp ? tmp : "/tmp"))
        d->scratch[0] = '\0';
}
