#include "egress/confine.h"

#include "base/fd.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534, DESCRIPTORS = 65536 };

#define READ_FILES                                                                                 \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ALL_FILES (READ_FILES | (LANDLOCK_ACCESS_FS_MAKE_SYM | (LANDLOCK_ACCESS_FS_MAKE_SYM - 1)))

/* The data directory may lie anywhere else; what remains readable is what every program reads. */
static void landlock_enter(void)
{
    static const char *const readable[] = {"/etc",
                                           "/usr",
                                           "/lib",
                                           "/lib64",
                                           "/run/systemd/resolve",
                                           "/run/resolvconf",
                                           "/run/NetworkManager"};
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL_FILES};
    AUTO_FD int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (rules < 0)
        return;
    for (size_t i = 0; i < COUNT_OF(readable); i++) {
        AUTO_FD int fd = open(readable[i], O_PATH | O_CLOEXEC);
        struct landlock_path_beneath_attr path = {.allowed_access = READ_FILES, .parent_fd = fd};
        if (fd >= 0)
            (void)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &path, 0);
    }
    (void)syscall(SYS_landlock_restrict_self, rules, 0);
}

/* Inside a user namespace with one id there is no nobody to become: then the capabilities go. */
static void drop_rights(void)
{
    if (geteuid() == 0 && setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0)
        (void)!setresuid(NOBODY, NOBODY, NOBODY);
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    (void)syscall(SYS_capset, &head, none);
}

static void limit(int what, rlim_t soft, rlim_t hard)
{
    struct rlimit r = {soft, hard};
    (void)setrlimit(what, &r);
}

void confine_self(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        rlim_t most = files.rlim_max < DESCRIPTORS ? files.rlim_max : DESCRIPTORS;
        limit(RLIMIT_NOFILE, most, most);
    }
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_FSIZE, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    drop_rights();
    landlock_enter();
    prctl(PR_SET_DUMPABLE, 0);
}
