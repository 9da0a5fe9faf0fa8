/* What stands for the host's root in containers without an image: the host's /usr is shown as it
 * is, and beside it goes a small tree made once: an /etc without anything of this host's own, the
 * users that packages expect, and dpkg's record of what is installed, so that packages can be
 * added. */
#include "sandbox/oci.h"

#include "base/fd.h"
#include "sandbox/build.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOST_VERSION = 1 };

static const char *const dirs[] = {"usr",
                                   "etc",
                                   "var",
                                   "var/lib",
                                   "var/lib/dpkg",
                                   "var/cache",
                                   "var/lib/apt",
                                   "var/log",
                                   "var/lib/misc",
                                   "var/lib/systemd",
                                   "var/spool",
                                   "var/log/apt",
                                   "var/cache/apt",
                                   "var/backups",
                                   "var/mail",
                                   "var/cache/debconf",
                                   "root",
                                   "home",
                                   "home/agent",
                                   "mnt",
                                   "mnt/session",
                                   "opt",
                                   "srv",
                                   "proc",
                                   "dev",
                                   "run",

                                   "tmp",
                                   "workspace",
                                   "media",
                                   "var/lib/apt/lists",
                                   "var/lib/apt/lists/partial",
                                   "var/cache/apt/archives",
                                   "var/cache/apt/archives/partial",
                                   "var/local",
                                   "boot"};

static const char *const roots[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* Says nothing about the host but which packages it has. */
static const char *const copied[] = {"etc/dpkg",
                                     "etc/debconf.conf",
                                     "etc/default",
                                     "etc/login.defs",
                                     "etc/adduser.conf",
                                     "etc/deluser.conf",
                                     "etc/shells",
                                     "etc/profile",
                                     "etc/profile.d",
                                     "etc/bash.bashrc",
                                     "etc/skel",
                                     "etc/pam.d",
                                     "etc/security",
                                     "etc/pam.conf",
                                     "etc/init.d",
                                     "etc/ca-certificates.conf",
                                     "etc/perl",
                                     "etc/emacs",
                                     "etc/apt/trusted.gpg.d",
                                     "var/lib/dpkg",
                                     "var/lib/pam",
                                     "var/lib/ucf",
                                     "var/lib/systemd/deb-systemd-helper-enabled"};

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                             "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
                             "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
                             "man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
                             "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
                             "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
                             "backup:x:34:34:backup:/var/backups:/usr/sbin/nologin\n"
                             "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
                             "agent:x:1000:1000:agent:/home/agent:/bin/bash\n"
                             "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
static const char group[] = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\n"
                            "disk:x:6:\nmail:x:8:\nman:x:12:\nkmem:x:15:\nsudo:x:27:\n"
                            "audio:x:29:\nwww-data:x:33:\nbackup:x:34:\nshadow:x:42:\n"
                            "utmp:x:43:\nvideo:x:44:\nstaff:x:50:\ngames:x:60:\nusers:x:100:\n"
                            "crontab:x:101:\nssh:x:102:\nagent:x:1000:\nnogroup:x:65534:\n";
static const char shadow[] = "root:*:19000:0:99999:7:::\nagent:*:19000:0:99999:7:::\n"
                             "nobody:*:19000:0:99999:7:::\n";

static int write_file(const char *dir, const char *name, const char *text, mode_t mode,
                      struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int rc = fd_write_file_atomic(path, str_z(text), mode, err);
    return rc == 0 && chmod(path, mode) < 0 ? err_sys(err, errno, "%s", path) : rc;
}

static int copy_link(const char *name, const char *to, struct err *err)
{
    char from[64], target[PATH_MAX];
    struct stat st;
    snprintf(from, sizeof from, "/%s", name);
    ssize_t n = readlink(from, target, sizeof target - 1);
    if (n > 0) {
        target[n] = '\0';
        return symlink(target, to) < 0 ? err_sys(err, errno, "%s", to) : 0;
    }
    if (lstat(from, &st) < 0)
        return 0;
    return err_set(err, ERR_UNAVAILABLE,
                   "%s is no link into /usr, so the oci driver cannot use this host's own "
                   "programs; merge it (Debian: usrmerge), or set sandbox.driver to bwrap",
                   from);
}

static int make(const char *dir, const char *etc, struct err *err)
{
    char path[PATH_MAX], from[PATH_MAX];
    int rc = fd_mkdirs(dir, 0755, err);
    for (size_t i = 0; i < COUNT_OF(dirs) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            rc = err_sys(err, errno, "%s", path);
        else if (chmod(path, 0755) < 0)
            rc = err_sys(err, errno, "%s", path);
    }
    for (size_t i = 0; i < COUNT_OF(roots) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, roots[i]);
        rc = copy_link(roots[i], path, err);
    }
    snprintf(path, sizeof path, "%s/etc", dir);
    rc = rc ? rc : build_etc(etc, "", path, err);
    rc = rc ? rc : tree_copy(etc, path, err); /* without the host's resolver, which builds have */
    for (size_t i = 0; i < COUNT_OF(copied) && rc == 0; i++) {
        snprintf(from, sizeof from, "/%s", copied[i]);
        snprintf(path, sizeof path, "%s/%s", dir, copied[i]);
        rc = tree_copy(from, path, err);
    }
    /* It names users and groups of this host. */
    rc = rc ? rc : write_file(dir, "var/lib/dpkg/statoverride", "", 0644, err);
    rc = rc ? rc : write_file(dir, "etc/passwd", passwd, 0644, err);
    rc = rc ? rc : write_file(dir, "etc/group", group, 0644, err);
    rc = rc ? rc : write_file(dir, "etc/shadow", shadow, 0640, err);
    snprintf(path, sizeof path, "%s/var/tmp", dir);
    if (rc == 0 && ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 01777) < 0))
        rc = err_sys(err, errno, "%s", path);
    snprintf(path, sizeof path, "%s/var/run", dir);
    if (rc == 0 && symlink("../run", path) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

int oci_host_root(const char *dir, const char *etc, char out[PATH_MAX], struct err *err)
{
    char id[CONTENT_HEX + 1], fresh[PATH_MAX - 128];
    layer_base_id("", id);
    snprintf(out, PATH_MAX, "%s/.host-%d-%.16s", dir, HOST_VERSION, id);
    if (access(out, F_OK) == 0)
        return 0;
    /* Never changed once it has its name: containers have it mounted. */
    snprintf(fresh, sizeof fresh, "%s/.host-new-%d", dir, (int)getpid());
    int rc = tree_remove(fresh, err);
    rc = rc ? rc : make(fresh, etc, err);
    if (rc == 0 && rename(fresh, out) < 0 && access(out, F_OK) < 0)
        rc = err_sys(err, errno, "%s", out);
    (void)tree_remove(fresh, NULL);
    return rc;
}
