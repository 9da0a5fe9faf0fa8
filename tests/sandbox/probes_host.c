/* What can be seen of the host, of the server and of other sessions. */
#include "probes.h"

static const struct probe rows[] = {
    {"host_files", "read a file of the host by its path",
     "cat {dir}/secret {data}/.etc.lock 2>&1 | grep -c 'No such file'", "2", NULL},
    {"host_root_listing", "find directories of the host below /",
     "ls / | tr '\\n' ' '; ls -d /boot /srv /media /sys /root /var/lib 2>/dev/null | wc -l", "*0",
     NULL},
    {"host_homes", "read the homes of the host's users", "ls /home | tr '\\n' ' '; ls /root 2>&1",
     "*No such file", NULL},
    {"host_sys", "read hardware and kernel objects below /sys", "ls /sys 2>&1", "*No such file",
     NULL},
    {"host_users", "learn the host's users", "cut -d: -f1 /etc/passwd | tr '\\n' ' '",
     "root agent nobody ", NULL},
    {"host_shadow", "read password hashes", "cat /etc/shadow /etc/gshadow 2>&1 | grep -c 'No such'",
     "2", NULL},
    {"host_identity", "identify the machine",
     "cat /etc/machine-id /var/lib/dbus/machine-id 2>&1 | grep -c 'No such'; uname -n; "
     "cat /etc/hostname",
     "2\nsandbox\nsandbox", NULL},
    {"host_ssh_keys", "steal the host's keys",
     "ls /etc/ssh /etc/ssl/private 2>&1 | grep -c 'No such'", "2", NULL},
    {"host_environment", "find the server's keys in a variable",
     "env | grep -ciE 'anthropic|openai|ostler|secret'; true", "0", NULL},
    {"host_mounts", "learn the host's file systems",
     "awk '{print $2}' /proc/mounts | grep -vcE "
     "'^/($|usr|bin|sbin|lib|lib32|lib64|libx32|etc|dev|proc|tmp|workspace|run/|home/agent|"
     "mnt/session|opt)'; true",
     "0", NULL},
    {"host_disks", "open a disk of the host",
     "ls /dev | grep -cE '^(sd|vd|nvme|mem|kmsg|kvm|port|fuse|loop|mapper|net)'; true", "0", NULL},
    {"processes_of_others", "see processes of the host or of other sandboxes",
     "ls -d /proc/[0-9]* | wc -l | awk '{print ($1<8)}'; cat /proc/1/comm", "1\nhand", NULL},
    {"processes_of_the_server", "look at or signal the server",
     "test $(cut -d' ' -f4 /proc/{pid}/stat 2>/dev/null || echo 1) = 1 || echo seen; "
     "pgrep -c '^(test|ostler)'; true",
     "0", NULL},
    {"processes_signal_all", "kill everything that can be named",
     "(trap '' TERM; kill -TERM -1 2>/dev/null; true); cat /proc/1/comm", "*", NULL},
    {"sessions_files", "read another session's files by path",
     "ls {data}/sesn_other {data} 2>&1 | grep -c 'No such file'", "2", NULL},
    {"sessions_sockets", "talk to another session's hand",
     "ls {run} 2>&1 | grep -c 'No such file'; grep -c ostler /proc/net/unix; true", "1\n0", NULL},
    {"sessions_abstract_sockets", "reach a server by an abstract socket",
     "wc -l < /proc/net/unix | awk '{print ($1<4)}'", "1", NULL},
    {"sessions_shared_memory", "find another session's shared memory",
     "ls /dev/shm | wc -l; tail -n +2 /proc/sysvipc/shm | wc -l; ls /dev/mqueue 2>/dev/null | wc "
     "-l",
     "0\n0\n0", NULL},
    {"sessions_tmp", "find another session's temporary files",
     "ls -A /tmp /var/tmp | grep -vcE '^$|^/|ostler-output'; true", "0", NULL},
    {"sockets_of_the_host", "reach a daemon of the host by its socket",
     "ls /run /var/run | grep -vE '^$|^/' | sort -u | tr '\\n' ' '", "!docker", NULL},
    {"sockets_hand_by_path", "connect to the hand's own socket",
     "find / -xdev -type s 2>/dev/null | wc -l", "0", NULL},
};
PROBE_TABLE(probes_host);
