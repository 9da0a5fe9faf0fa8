/* Becoming more than an ordinary user without capabilities; getting at pid 1. */
#include "probes.h"

static const struct probe rows[] = {
    {"user_ids", "be root", "id -u; id -g; id -G", "1000\n1000\n1000", NULL},
    {"user_setuid", "become root by a call",
     PY "import os\ntry: os.setuid(0)\nexcept OSError as e: print(\"refused\")'", "refused", NULL},
    {"user_setgroups", "join another group",
     PY "import os\ntry: os.setgroups([0])\nexcept OSError as e: print(\"refused\")'", "refused",
     NULL},
    {"user_su", "become root by a setuid program",
     "su -c id </dev/null 2>&1; sudo -n id 2>&1; true", "!uid=0", NULL},
    {"user_setuid_file", "make a setuid program", "cp /usr/bin/id s; chmod 4755 s; ./s -u; rm -f s",
     "1000", NULL},
    {"user_file_caps", "give a program a capability",
     "cp /bin/true c; setcap cap_sys_admin+ep c 2>&1; rm -f c; true", "!cap_sys_admin=ep", NULL},
    {"user_chown", "give a file to root", "touch f; chown 0 f 2>/dev/null || echo refused; rm -f f",
     "refused", NULL},
    {"caps_none", "use a capability", "grep Cap /proc/self/status | awk '{print $2}' | sort -u",
     "0000000000000000", NULL},
    {"caps_no_new_privs", "gain privileges by executing",
     "grep NoNewPrivs /proc/self/status | awk '{print $2}'", "1", NULL},
    {"caps_seccomp", "run without the filter",
     "grep ^Seccomp: /proc/self/status | awk '{print $2}'", "2", NULL},
    {"devices_mknod", "make a device file", "mknod d c 1 1 2>&1; mknod d b 8 0 2>&1",
     "*not permitted", NULL},
    {"devices_dev", "find a device that is more than the usual ones",
     "find /dev -type b 2>/dev/null | wc -l; find /dev -type c 2>/dev/null | grep -vcE "
     "'/dev/(null|zero|full|random|urandom|tty|console|ptmx|pts/.*)$'; true",
     "0\n0", NULL},
    {"userns_nested", "get capabilities in a user namespace of one's own", "unshare -U true 2>&1",
     "*unshare failed", NULL},
    {"userns_nested_root", "be root in a namespace of one's own", "unshare -Ur id -u 2>&1",
     "*unshare failed", NULL},
    {"namespaces_mount", "get a mount namespace", "unshare -m true 2>&1", "*unshare failed", NULL},
    {"namespaces_join", "enter the host's namespaces",
     "nsenter -t 1 -m true 2>&1 | grep -ciE 'denied|not permitted|failed'", "1", NULL},
    {"chroot", "build a root of one's own", "chroot /tmp true 2>&1", "*not permitted", NULL},
    {"pid1_signal", "end or stop the hand", "kill -9 1; kill -STOP 1; cat /proc/1/comm", "hand",
     NULL},
    {"pid1_memory", "read the hand's memory", "cat /proc/1/mem 2>&1; cat /proc/1/maps 2>&1",
     "*denied", NULL},
    {"pid1_descriptors", "take the hand's socket", "ls /proc/1/fd 2>&1", "*denied", NULL},
    {"pid1_environment", "read what the hand was started with", "cat /proc/1/environ 2>&1",
     "*denied", NULL},
    {"pid1_root", "reach another root through the hand", "ls /proc/1/root/ /proc/1/cwd/ 2>&1",
     "*denied", NULL},
    {"ptrace_pid1", "trace the hand", CALL("101", ",16,1,0,0"), EPERM_SAID, NULL},
    {"ptrace_pidfd_getfd", "copy a descriptor out of the hand",
     PY "import ctypes,os; l=ctypes.CDLL(None,use_errno=True); p=l.syscall(434,1,0)\n"
        "r=[l.syscall(438,p,i,0) for i in range(3,9)]; print(max(r))'",
     "-1", NULL},
    {"ptrace_process_vm", "write into the hand's memory",
     PY "import ctypes,os; l=ctypes.CDLL(None,use_errno=True)\n"
        "b=ctypes.create_string_buffer(8)\n"
        "class V(ctypes.Structure): _fields_=[(\"b\",ctypes.c_void_p),(\"n\",ctypes.c_size_t)]\n"
        "v=V(ctypes.addressof(b),8); r=l.syscall(310,1,ctypes.byref(v),1,ctypes.byref(v),1,0)\n"
        "print(r)'",
     "-1", NULL},
    {"ptrace_own_child", "(a debugger works on one's own children)",
     PY "import ctypes,os,time; l=ctypes.CDLL(None,use_errno=True); p=os.fork()\n"
        "if p==0:\n while True: time.sleep(1)\n"
        "r=l.syscall(101,16,p,0,0); print(r); os.kill(p,9)'",
     "0", NULL},
    {"report_forged", "claim that the command has ended",
     "for fd in 250 251; do (echo '1 0' >&$fd) 2>/dev/null && echo wrote $fd; done; echo end",
     "end", NULL},
};
PROBE_TABLE(probes_privilege);
