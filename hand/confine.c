/* What the hand gives up before it serves: being looked into, gaining privileges, files outside the
 * sandbox's directories. Landlock repeats the mounts' rules in another mechanism of the kernel. */
#include "hand/hand.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Rights that came after the headers of Debian 12, and by which ABI. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* 2 */
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* 3 */
#endif
#define ACCESS_FS_IOCTL_DEV (1ULL << 15) /* 5 */

#define ACCESS_ABI_1 ((1ULL << 13) - 1)
#define ACCESS_READ                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE_FILE (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
/* A directory of one's own: everything but making devices, which no one here may anyway. */
#define ACCESS_ALL (ACCESS_ABI_1 | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)

struct rule {
    const char *path;
    uint64_t access;
};

static const struct rule rules[] = {
    {"/", ACCESS_READ},
    {"/workspace", ACCESS_ALL},
    {"/tmp", ACCESS_ALL},
    {"/home/agent", ACCESS_ALL},
    {"/mnt/session/outputs", ACCESS_ALL},
    {"/mnt/memory", ACCESS_ALL},
    {"/dev/shm", ACCESS_ALL},
    {"/dev", ACCESS_READ | ACCESS_WRITE_FILE | ACCESS_FS_IOCTL_DEV},
    {"/proc", ACCESS_READ | ACCESS_WRITE_FILE},
};

static uint64_t handled(int abi)
{
    uint64_t access = ACCESS_ABI_1;
    if (abi >= 2)
        access |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        access |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= 5)
        access |= ACCESS_FS_IOCTL_DEV;
    return access;
}

static void add_rule(int ruleset, const struct rule *r, uint64_t mask)
{
    AUTO_FD int fd = open(r->path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return; /* not every sandbox has every directory */
    struct landlock_path_beneath_attr attr = {.allowed_access = r->access & mask, .parent_fd = fd};
    /* A rule that cannot be added only makes the sandbox narrower. */
    (void)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0);
}

static int landlock_enter(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return 0;
    struct landlock_ruleset_attr attr = {.handled_access_fs = handled((int)abi)};
    AUTO_FD int ruleset =
        (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
    if (ruleset < 0)
        return 0;
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        add_rule(ruleset, &rules[i], handled((int)abi));
    return syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ? (int)abi : 0;
}

int confine(bool landlock)
{
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return landlock ? landlock_enter() : 0;
}
