/* System calls that have been the way out of sandboxes before. */
#include "probes.h"

#ifdef __x86_64__
static const struct probe rows[] = {
    {"call_mount", "mount", CALL("165", ",b\"x\",b\"/tmp\",b\"tmpfs\",0,0"), EPERM_SAID, NULL},
    {"call_umount2", "unmount", CALL("166", ",b\"/tmp\",2"), EPERM_SAID, NULL},
    {"call_pivot_root", "change the root", CALL("155", ",b\"/tmp\",b\"/tmp\""), EPERM_SAID, NULL},
    {"call_open_tree", "copy a mount", CALL("428", ",-100,b\"/tmp\",1"), EPERM_SAID, NULL},
    {"call_move_mount", "move a mount", CALL("429", ",-100,b\"/tmp\",-100,b\"/tmp\",0"), EPERM_SAID,
     NULL},
    {"call_fsopen", "mount by the new calls", CALL("430", ",b\"tmpfs\",0"), EPERM_SAID, NULL},
    {"call_mount_setattr", "make a mount writable", CALL("442", ",-100,b\"/usr\",0,0,0"),
     EPERM_SAID, NULL},
    {"call_setns", "enter a namespace", CALL("308", ",0,0"), EPERM_SAID, NULL},
    {"call_unshare_user", "make a user namespace", CALL("272", ",0x10000000"), EPERM_SAID, NULL},
    {"call_unshare_time", "make a time namespace", CALL("272", ",0x80"), EPERM_SAID, NULL},
    {"call_unshare_files", "(unsharing descriptors is harmless)", CALL("272", ",0x400"),
     "0 Success", NULL},
    {"call_clone_user", "make a child in a user namespace", CALL("56", ",0x10000000|17,0,0,0,0"),
     EPERM_SAID, NULL},
    {"call_clone3", "the same where a filter cannot look", CALL("435", ",0,0"), ENOSYS_SAID, NULL},
    {"call_keyctl", "use the kernel's keyrings", CALL("250", ",0,-3,1"), EPERM_SAID, NULL},
    {"call_add_key", "add a key", CALL("248", ",b\"user\",b\"a\",b\"b\",1,-3"), EPERM_SAID, NULL},
    {"call_request_key", "have a key made", CALL("249", ",b\"user\",b\"a\",0,-3"), EPERM_SAID,
     NULL},
    {"call_bpf", "load a program into the kernel", CALL("321", ",0,0,0"), EPERM_SAID, NULL},
    {"call_perf_event_open", "measure the kernel", CALL("298", ",0,0,0,0,0"), EPERM_SAID, NULL},
    {"call_userfaultfd", "stop the kernel in a page fault", CALL("323", ",1"), EPERM_SAID, NULL},
    {"call_io_uring", "have calls made past the filter", CALL("425", ",8,0"), ENOSYS_SAID, NULL},
    {"call_io_uring_enter", "the same with a ring that is there", CALL("426", ",0,1,0,0,0,0"),
     ENOSYS_SAID, NULL},
    {"call_kexec_load", "start another kernel", CALL("246", ",0,0,0,0"), EPERM_SAID, NULL},
    {"call_init_module", "load a module", CALL("175", ",0,0,b\"\""), EPERM_SAID, NULL},
    {"call_finit_module", "load a module from a file", CALL("313", ",0,b\"\",0"), EPERM_SAID, NULL},
    {"call_delete_module", "unload a module", CALL("176", ",b\"x\",0"), EPERM_SAID, NULL},
    {"call_open_by_handle_at", "open a file past the mounts", CALL("304", ",-100,0,0"), EPERM_SAID,
     NULL},
    {"call_name_to_handle_at", "learn the handles of files", CALL("303", ",-100,b\"/usr\",0,0,0"),
     EPERM_SAID, NULL},
    {"call_fanotify", "watch the host's files", CALL("300", ",0,0"), EPERM_SAID, NULL},
    {"call_reboot", "restart the host", CALL("169", ",0xfee1dead,672274793,0,0"), EPERM_SAID, NULL},
    {"call_swapon", "swap into a file of one's own", CALL("167", ",b\"/tmp/x\",0"), EPERM_SAID,
     NULL},
    {"call_acct", "have the kernel write into a file", CALL("163", ",b\"/tmp/x\""), EPERM_SAID,
     NULL},
    {"call_settimeofday", "set the host's clock", CALL("164", ",0,0"), EPERM_SAID, NULL},
    {"call_clock_settime", "set the host's clock by the other call", CALL("227", ",0,0"),
     EPERM_SAID, NULL},
    {"call_iopl", "use the hardware's ports", CALL("172", ",3"), EPERM_SAID, NULL},
    {"call_syslog", "read the kernel's log", CALL("103", ",3,0,0"), EPERM_SAID, NULL},
    {"call_tiocsti", "type into the server's terminal", CALL("16", ",0,0x5412,b\"x\""), EPERM_SAID,
     NULL},
    {"call_tiocsti_disguised", "the same with a request that only looks different",
     CALL("16", ",0,ctypes.c_ulong(0x100005412),b\"x\""), EPERM_SAID, NULL},
    {"call_32_bit", "make calls under numbers that the filter does not know",
     "printf '.globl _start\\n_start: movl $20,%%eax\\nint $0x80\\n"
     "movl $60,%%eax\\nxorl %%edi,%%edi\\nsyscall\\n' > /tmp/a.s && "
     "gcc -nostdlib -static -o /tmp/a /tmp/a.s 2>/dev/null || { echo 159; false; } && "
     "{ /tmp/a; echo $?; }; rm -f /tmp/a /tmp/a.s",
     "*159", NULL},
    {"call_x32", "make calls by the x32 numbers", CALL("0x40000000+39", ""), "!0 Success", NULL},
};
#else
static const struct probe rows[] = {
    {"call_unshare_user", "make a user namespace", "unshare -U true 2>&1", "*unshare failed", NULL},
};
#endif
PROBE_TABLE(probes_calls);
