/* What keeps sandboxes from working on a host, and what its operator can do about it. */
#include "sandbox/impl.h"

#include "base/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The namespaces that a kernel starts with have these numbers (PROC_*_INIT_INO). */
#define FIRST_USER_NS 0xEFFFFFFDu
#define FIRST_PID_NS 0xEFFFFFFCu

static int64_t setting(const char *path)
{
    AUTO_BUF struct buf text = BUF_INIT(4096);
    int64_t n;
    if (fd_read_file(path, &text, NULL) != 0 || !str_i64(str_trim(buf_view(&text)), &n))
        return -1;
    return n;
}

static bool is_inode(const char *path, unsigned inode)
{
    struct stat st;
    return stat(path, &st) < 0 || st.st_ino == inode;
}

void host_facts(struct host_facts *f)
{
    const char *env = getenv("container");
    *f = (struct host_facts){
        .root = geteuid() == 0,
        .userns_clone = setting("/proc/sys/kernel/unprivileged_userns_clone"),
        .max_userns = setting("/proc/sys/user/max_user_namespaces"),
        .apparmor_userns = setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        .container = !is_inode("/proc/self/ns/user", FIRST_USER_NS) ||
                     !is_inode("/proc/self/ns/pid", FIRST_PID_NS) || (env && env[0]) ||
                     access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0,
    };
}

static bool about_userns(struct str said)
{
    static const char *const signs[] = {"user namespace", "uid map",     "gid map",
                                        "new namespace",  "RTM_NEWADDR", "RTM_NEWLINK"};
    for (size_t i = 0; i < COUNT_OF(signs); i++)
        if (str_find(said, str_z(signs[i])) >= 0)
            return true;
    return false;
}

/* The switches that a host may have for user namespaces, the one that is off by its name. */
static const char *userns_remedy(const struct host_facts *f)
{
    if (f->max_userns == 0)
        return f->container ? "; user.max_user_namespaces is 0 in this container: set it higher "
                              "there, or start the container with more rights"
                            : "; user namespaces are disabled: sysctl -w "
                              "user.max_user_namespaces=10000";
    if (f->userns_clone == 0)
        return "; unprivileged user namespaces are disabled: sysctl -w "
               "kernel.unprivileged_userns_clone=1, or run as root";
    if (f->apparmor_userns > 0)
        return "; AppArmor restricts user namespaces: allow them in a profile for bwrap, or "
               "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root";
    if (f->container)
        return "; the container may not make user namespaces: start it with a seccomp profile that "
               "allows them (--security-opt seccomp=unconfined, or a profile with unshare, clone "
               "and mount)";
    return "; allow unprivileged user namespaces (CONFIG_USER_NS, user.max_user_namespaces), or "
           "run as root";
}

const char *host_remedy(struct str said, const struct host_facts *f)
{
    static const struct {
        const char *sign, *text;
    } known[] = {
        {"bubblewrap is not installed", "; install it (Debian: apt-get install bubblewrap)"},
        {"cannot execute bwrap", "; install bubblewrap (Debian: apt-get install bubblewrap)"},
        {"idmapped mount",
         "; the oci driver needs Linux 5.19, and the data directory, /usr and images "
         "on file systems with idmapped mounts (ext4, xfs, btrfs)"},
        {"writable root (overlay)",
         "; the data directory must lie on a file system that overlays can "
         "write to (ext4, xfs, btrfs), not on an overlay itself"},
        {"cgroups in hybrid mode", "; crun refuses hosts with both versions of cgroups: set "
                                   "sandbox.oci.runtime to runc"},
        {"mount proc",
         "; the container hides parts of /proc, so the kernel allows no new one in it: start it "
         "with an unmasked /proc (--security-opt systempaths=unconfined, Kubernetes: procMount: "
         "Unmasked)"},
        {"cannot become user", "; the server is root, but may become no other user: run it as an "
                               "ordinary user, or give it CAP_SETUID and user ids from 700000 up"},
        {"cannot give", "; the server is root, but may give files to no other user: run it as an "
                        "ordinary user, or give it CAP_CHOWN and user ids from 700000 up"},
        {"a mount namespace", "; the server is root, but may not mount: run it as an ordinary "
                              "user, or give it CAP_SYS_ADMIN"},
        {"cannot mount a tmpfs", "; the server is root, but may not mount: run it as an ordinary "
                                 "user, or give it CAP_SYS_ADMIN"},
        {"pivot_root", "; bubblewrap may not mount here: a container must allow mounts in "
                       "namespaces of its processes (AppArmor: unconfined)"},
        {"make / slave", "; bubblewrap may not mount here: a container must allow mounts in "
                         "namespaces of its processes (AppArmor: unconfined)"},
        {"Unknown option", "; bubblewrap 0.8 or later is needed"},
        {"seccomp", "; the kernel must have CONFIG_SECCOMP_FILTER, and a container's own filter "
                    "must not refuse seccomp()"},
        {"bad argument", "; ostler and its hand are of different versions: build or install both "
                         "together"},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_find(said, str_z(known[i].sign)) >= 0)
            return known[i].text;
    return about_userns(said) ? userns_remedy(f) : "";
}
