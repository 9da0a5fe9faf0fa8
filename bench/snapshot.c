/* snapshot: what keeping and restoring the files of a session costs, beside a walk that looks at
 * every file, and tar that unpacks the same tree; and what a copy of them costs, beside cp.
 *
 *   snapshot DIR FILES MEGABYTES ROUNDS
 *
 * DIR is empty and goes on being ours. Half of the contents are text, half do not compress. */
#include "samples.h"

#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/copy.h"
#include "sandbox/snapshot.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char session[PATH_MAX - 64], index_file[PATH_MAX - 64], previous[BLOB_NAME_LEN + 1];
static const char *base;
static struct blobs blobs;
static uint64_t seed = 1;

static char *below(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned at;
    char *out = path[at++ % COUNT_OF(path)];
    if (snprintf(out, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
        die("the path is too long");
    return out;
}

static void fill(char *to, size_t n, bool text)
{
    static const char words[] = "int return struct static const char void while for ";
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        to[i] = text ? words[(i + (seed >> 62)) % (sizeof words - 1)] : (char)(seed >> 56);
    }
}

static void make_tree(int files, size_t each)
{
    char name[PATH_MAX];
    AUTO_FREE char *data = mem_alloc(each);
    for (int i = 0; i < files; i++) {
        snprintf(name, sizeof name, "%s/workspace/dir-%d", session, i / 50);
        if (i % 50 == 0 && mkdir(name, 0755) < 0)
            die("cannot make %s", name);
        snprintf(name, sizeof name, "%s/workspace/dir-%d/file-%d.c", session, i / 50, i);
        AUTO_FD int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        fill(data, each, i % 2);
        if (fd < 0 || fd_write_all(fd, str_n(data, each), NULL))
            die("cannot make %s", name);
    }
}

static void change(int i)
{
    char name[PATH_MAX], data[4096];
    fill(data, sizeof data, true);
    snprintf(name, sizeof name, "%s/workspace/dir-0/file-%d.c", session, i % 50);
    AUTO_FD int fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, str_n(data, sizeof data), NULL))
        die("cannot change %s", name);
}

static int64_t take(void)
{
    struct snapshot s;
    struct err err = {0};
    int64_t from = clock_mono_us();
    struct snapshot_how how = {.blobs = &blobs,
                               .dir = session,
                               .index = index_file,
                               .previous = previous[0] ? previous : NULL};
    if (snapshot_take(&how, &s, &err))
        die("%s", err.msg);
    int64_t took = clock_mono_us() - from;
    memcpy(previous, s.manifest.z, sizeof previous);
    snapshot_fini(&s);
    return took;
}

static int look(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)type;
    (void)ftw;
    return 0;
}

static int64_t walk(void)
{
    int64_t from = clock_mono_us();
    if (nftw(session, look, 64, FTW_PHYS))
        die("the walk failed");
    return clock_mono_us() - from;
}

static int64_t run(char *const argv[])
{
    pid_t pid;
    int status;
    int64_t from = clock_mono_us();
    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) || waitpid(pid, &status, 0) < 0 ||
        status)
        die("%s failed", argv[0]);
    return clock_mono_us() - from;
}

static int64_t restore(const char *to)
{
    struct err err = {0};
    int64_t from = clock_mono_us();
    if (mkdir(to, 0700) < 0 || snapshot_restore(&blobs, str_z(previous), to, 0, &err))
        die("%s: %s", to, err.msg);
    return clock_mono_us() - from;
}

static int64_t copy_all(const char *to)
{
    struct err err = {0};
    atomic_bool stop = false;
    struct copy_how how = {.max_files = INT64_MAX, .max_bytes = INT64_MAX, .stop = &stop};
    int64_t from = clock_mono_us();
    if (mkdir(to, 0700) < 0 || copy_tree(below("session/workspace"), to, &how, &err))
        die("%s: %s", to, err.msg);
    return clock_mono_us() - from;
}

static void numbered(char out[PATH_MAX], const char *name, int i)
{
    if (snprintf(out, PATH_MAX, "%s/%s%d", base, name, i) >= PATH_MAX)
        die("the path is too long");
}

/* What is made stays until the end: ext4 is slow to make files in a minute in which many went. */
static void one_round(int i)
{
    char copy[PATH_MAX], unpacked[PATH_MAX], direct[PATH_MAX], cp[PATH_MAX];
    numbered(copy, "copy", i);
    numbered(unpacked, "unpacked", i);
    numbered(direct, "direct", i);
    numbered(cp, "cp", i);
    change(i);
    long long walked = walk(), took = take(), unchanged = take();
    sync(); /* so that nothing is written while the next ones are measured */
    long long back = restore(copy);
    sync();
    if (mkdir(unpacked, 0700) < 0)
        die("cannot make %s", unpacked);
    long long tar = run((char *const[]){"tar", "-xf", below("tree.tar"), "-C", unpacked, NULL});
    sync();
    long long copied = copy_all(direct);
    sync();
    long long by_cp = run((char *const[]){"cp", "-a", below("session/workspace"), cp, NULL});
    printf("%s{\"walk\":%lld,\"take\":%lld,\"unchanged\":%lld,\"restore\":%lld,\"tar\":%lld,"
           "\"direct\":%lld,\"cp\":%lld}",
           i ? "," : "", walked, took, unchanged, back, tar, copied, by_cp);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: snapshot DIR FILES MEGABYTES ROUNDS");
    int files = (int)number(argv[2], 50, 1000000), rounds = (int)number(argv[4], 1, 1000);
    size_t megabytes = (size_t)number(argv[3], 1, 10000);
    struct err err;
    base = argv[1];
    if (!str_copyz(session, sizeof session, str_z(below("session"))) ||
        !str_copyz(index_file, sizeof index_file, str_z(below("index"))))
        die("the path is too long");
    if (blobs_open(&blobs, base, &err) || mkdir(session, 0700) < 0)
        die("cannot begin in %s", base);
    char workspace[PATH_MAX];
    snprintf(workspace, sizeof workspace, "%s/workspace", session);
    if (mkdir(workspace, 0755) < 0)
        die("cannot make %s", workspace);
    make_tree(files, (megabytes << 20) / (size_t)files);
    run((char *const[]){"tar", "-cf", below("tree.tar"), "-C", session, ".", NULL});
    struct timespec pause = {.tv_nsec = 100000000}; /* what was written just now is read again */
    nanosleep(&pause, NULL);
    printf("{\"first\":%lld,\"rounds\":[", (long long)take());
    for (int i = 0; i < rounds; i++)
        one_round(i);
    printf("]}\n");
    blobs_close(&blobs);
    return 0;
}
