/* The OCI driver: whoever is inside is root of a root of its own. What other tiers refuse is
 * allowed here and stays inside; what reaches further is refused as everywhere. */
#include "probes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SESSION "sesn_probe"
#define OTHER "sesn_probe_other"

static void says(struct fixture *f, const char *session, const char *command, const char *want)
{
    struct answer a;
    bash(f, &a, session, command);
    if (strcmp(a.text.data, want) != 0)
        fail_msg("%s\n said: %s\n not:  %s", command, a.text.data, want);
    answer_fini(&a);
}

/* Ends the sandbox and keeps its files. */
static void end_sandbox(struct fixture *f, const char *session)
{
    char command[256];
    int64_t up = sandboxes_stats(f->s).up;
    snprintf(command, sizeof command, "kill -9 $(cat data/%s/oci/pid)", session);
    assert_int_equal(on_host(f, command), 0);
    for (int i = 0; i < 500 && sandboxes_stats(f->s).up == up; i++)
        turn(f, 20);
    assert_int_equal(sandboxes_stats(f->s).up, up - 1);
}

static void root_of_its_own(struct fixture *f)
{
    says(f, SESSION,
         "touch /x-probe /usr/x-probe /etc/x-probe && cp /bin/true /usr/bin/env && chmod 777 "
         "/usr/bin/id && echo x:x:0:0::/:/bin/sh >> /etc/passwd && echo wrote",
         "wrote");
    assert_int_not_equal(access("/x-probe", F_OK), 0);
    assert_int_not_equal(access("/usr/x-probe", F_OK), 0);
    assert_int_not_equal(access("/etc/x-probe", F_OK), 0);
    assert_int_equal(on_host(f, "! cmp -s /bin/true /usr/bin/env && ! grep -q ^x:x /etc/passwd && "
                                "test -z \"$(find /usr/bin/id -perm 777)\""),
                     0);
    says(f, OTHER, "ls /x-probe /usr/x-probe /etc/x-probe 2>/dev/null; grep ^x:x /etc/passwd; true",
         "");
    f->port.destroy(f->port.self, STR(OTHER), true);
    says(f, SESSION,
         "rm -f /x-probe /usr/x-probe /etc/x-probe /usr/bin/env; sed -i /^x:x/d /etc/passwd", "");
}

/* What was installed is there in the next sandbox of the session. */
static void root_that_stays(struct fixture *f)
{
    says(f, OTHER,
         "mkdir -p p/DEBIAN p/usr/bin && cd p && printf 'Package: probe\nVersion: 1.2\n"
         "Architecture: all\nMaintainer: a <a@b.c>\nDescription: x\n' > DEBIAN/control && "
         "printf '#!/bin/sh\nadduser --system --quiet probed 2>/dev/null || useradd -r probed; "
         "touch /etc/probed; chown probed /etc/probed\n' > DEBIAN/postinst && "
         "chmod 755 DEBIAN/postinst && printf '#!/bin/sh\necho installed\n' > usr/bin/probe-it && "
         "chmod 755 usr/bin/probe-it && cd .. && dpkg-deb --root-owner-group -b p p.deb >/dev/null "
         "&& dpkg -i p.deb >/dev/null 2>log || cat log; probe-it; stat -c %U /etc/probed",
         "installed\nprobed");
    says(f, OTHER, "echo > /tmp/here; echo $$ > ~/pid", "");
    end_sandbox(f, OTHER);
    says(f, OTHER, "probe-it; stat -c %U /etc/probed; dpkg-query -W probe",
         "installed\nprobed\nprobe\t1.2");
    says(f, OTHER, "dpkg -P probe >/dev/null 2>&1; ls /usr/bin/probe-it 2>/dev/null; true", "");
    f->port.destroy(f->port.self, STR(OTHER), true);
}

static void disk_of_the_root(struct fixture *f)
{
    struct answer a;
    bash(f, &a, SESSION,
         "for i in 1 2 3 4 5 6 7 8 9; do head -c 20000000 /dev/zero > /usr/local/hog$i; done; "
         "sleep 60");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "disk");
    answer_fini(&a);
    says(f, SESSION, "rm -f /usr/local/hog*; echo cleaned", "cleaned");
}

static const struct probe rows[] = {
    /* in place of others */
    {"host_root_listing", "find files of the host below /",
     "find /boot /srv /media /root /home/agent/.ssh -type f 2>/dev/null | wc -l", "0", NULL},
    {"host_homes", "read the homes of the host's users", "ls /home; ls -A /root", "agent", NULL},
    {"host_users", "learn the host's users",
     "awk -F: '$3 >= 1000 && $3 < 65534 {print $1}' /etc/passwd", "agent", NULL},
    {"host_shadow", "read password hashes", "grep -c '[$]' /etc/shadow; ls /etc/gshadow 2>&1",
     "*No such file", NULL},
    {"host_mounts", "learn the host's file systems",
     "awk '{print $2}' /proc/mounts | grep -vcE "
     "'^/($|usr|dev|proc|tmp|run|workspace|home/agent|mnt/session|opt)'; true",
     "0", NULL},
    {"write_root", "reach the host or another session by a root that can be written to", NULL, NULL,
     root_of_its_own},
    {"write_usr", NULL, NULL, NULL, NULL},
    {"write_etc", NULL, NULL, NULL, NULL},
    {"write_modes", NULL, NULL, NULL, NULL},
    {"write_dev", "make a device",
     "(mknod /dev/x b 254 0; mknod /tmp/x c 1 1; mknod /usr/x c 1 1) 2>&1 | grep -c 'not "
     "permitted'",
     "3", NULL},
    {"write_proc_1", "change the hand through /proc",
     "(echo x > /proc/1/mem) 2>&1 | grep -ciE 'denied|not permitted'", "1", NULL},
    {"mount_bind_remount", "make a read-only mount writable",
     "mount -o remount,bind,rw /mnt/session/uploads 2>&1; touch /mnt/session/uploads/x 2>&1",
     "*Read-only file system", NULL},
    {"user_ids", "be the host's root",
     "id -u; awk 'NR == 1 {print ($2 >= 1073741824)}' /proc/self/uid_map", "0\n1", NULL},
    {"user_setuid", "become a user that the sandbox has not",
     PY "import os\ntry: os.setuid(3000)\nexcept OSError as e: print(\"refused\")'", "refused",
     NULL},
    {"user_setgroups", "join a group that the sandbox has not",
     PY "import os\ntry: os.setgroups([3000])\nexcept OSError as e: print(\"refused\")'", "refused",
     NULL},
    {"user_su", "become root again without its rights",
     "setpriv --reuid 1000 --regid 1000 --clear-groups su -c id </dev/null 2>&1; true", "!uid=0",
     NULL},
    {"user_setuid_file", "make a setuid program",
     "cp /usr/bin/id /usr/s; chmod 4755 /usr/s; setpriv --reuid 1000 --clear-groups /usr/s -u; rm "
     "-f /usr/s",
     "1000", NULL},
    {"user_chown", "give a file to somebody outside",
     "touch f; chown 3000 f 2>/dev/null || echo refused; rm -f f", "refused", NULL},
    {"caps_none", "use a capability beyond those of packages",
     "grep Cap /proc/self/status | awk '{print $2}' | sort -u",
     "0000000000000000\n00000000000000fb", NULL},
    {"pid1_descriptors", "take the hand's socket",
     "for i in /proc/1/fd/*; do readlink $i && echo read; cat $i; done 2>&1 | head -c 200",
     "*denied", NULL},
    {"links_under_the_file_tools", NULL, NULL, NULL, NULL},
    /* of its own */
    {"oci_packages_stay", "install a package with a script and a user of its own", NULL, NULL,
     root_that_stays},
    {"oci_disk_of_the_root", "fill the disk outside of the workspace", NULL, NULL,
     disk_of_the_root},
    {"oci_host_files_of_others", "read what only the host's root may",
     "cat /usr/lib/openssh/../../../etc/shadow- 2>&1; ls /var/lib/dpkg/status >/dev/null && echo "
     "own",
     "*own", NULL},
    {"oci_runtime", "find the runtime's own files",
     "ls -d {run}/oci {dir} 2>&1 | grep -c 'No such'", "2", NULL},
    {"oci_cgroup", "change one's own limits",
     "ls -d /sys/fs/cgroup 2>&1; find / -xdev -name memory.limit_in_bytes 2>/dev/null | head -1",
     "*No such file", NULL},
    {"oci_overlay_attributes", "talk to the overlay by its own attributes",
     PY "import os\nopen(\"/usr/a\",\"w\").close()\n"
        "try: os.setxattr(\"/usr/a\",\"trusted.overlay.opaque\",b\"y\")\n"
        "except OSError as e: print(\"refused\")\nos.unlink(\"/usr/a\")'",
     "refused", NULL},
    {"oci_whiteout", "make a whiteout by hand",
     "mknod /usr/w c 0 0 2>&1 | grep -c 'not permitted'; rm -f /usr/w", "*", NULL},
};

PROBE_TABLE(probes_oci);
