/* A deny list over the default of the namespaces: what no build, test or script needs, and what has
 * been the way out of sandboxes before. clone3 is refused as unknown, because its flags lie in
 * memory where a filter cannot look; libc then uses clone. */
#include "sandbox/seccomp.h"

#include "base/fd.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET | 0x00000080 /* CLONE_NEWTIME */)

/* Plain refusals with EPERM; names that this libseccomp does not know are skipped. */
static const char *const denied[] = {
    /* mounts */
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "swapon",
    "swapoff",
    "quotactl",
    "quotactl_fd",
    "acct",
    /* the kernel itself */
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "reboot",
    "syslog",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "lookup_dcookie",
    "nfsservctl",
    "iopl",
    "ioperm",
    "vhangup",
    "fanotify_init",
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "stime",
    /* keys belong to users, not to namespaces */
    "add_key",
    "keyctl",
    "request_key",
    /* files by handle pass by the mounts */
    "open_by_handle_at",
    "name_to_handle_at",
    "setns",
};

/* Refused as if the kernel were older: programs have another way and take it. */
static const char *const unknown[] = {"clone3", "io_uring_setup", "io_uring_enter",
                                      "io_uring_register"};

/* Where rules go: a filter, or (ctx NULL) the JSON of an OCI runtime's configuration. */
struct rules {
    scmp_filter_ctx ctx;
    struct jw *json;
};

static void write_rule(struct jw *w, const char *name, int sys, unsigned n,
                       const struct scmp_arg_cmp *args)
{
    static const char *const ops[] = {[SCMP_CMP_NE] = "SCMP_CMP_NE",
                                      [SCMP_CMP_EQ] = "SCMP_CMP_EQ",
                                      [SCMP_CMP_GT] = "SCMP_CMP_GT",
                                      [SCMP_CMP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ"};
    jw_obj(w);
    jw_key(w, "names");
    jw_arr(w);
    jw_z(w, name);
    jw_arr_end(w);
    jw_kz(w, "action", "SCMP_ACT_ERRNO");
    jw_ki64(w, "errnoRet", sys);
    jw_key(w, "args");
    jw_arr(w);
    for (unsigned i = 0; i < n; i++) {
        jw_obj(w);
        jw_ki64(w, "index", args[i].arg);
        jw_ki64(w, "value", (int64_t)args[i].datum_a);
        jw_ki64(w, "valueTwo", (int64_t)args[i].datum_b);
        jw_kz(w, "op", ops[args[i].op]);
        jw_obj_end(w);
    }
    jw_arr_end(w);
    jw_obj_end(w);
}

static int deny(const struct rules *r, const char *name, int sys, unsigned n,
                const struct scmp_arg_cmp *args)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == __NR_SCMP_ERROR || nr < 0)
        return 0;
    if (r->ctx)
        return seccomp_rule_add_array(r->ctx, SCMP_ACT_ERRNO((unsigned)sys), nr, n, args);
    write_rule(r->json, name, sys, n, args);
    return 0;
}

static int deny_lists(const struct rules *r)
{
    int rc = 0;
    for (size_t i = 0; i < COUNT_OF(denied) && rc == 0; i++)
        rc = deny(r, denied[i], EPERM, 0, NULL);
    for (size_t i = 0; i < COUNT_OF(unknown) && rc == 0; i++)
        rc = deny(r, unknown[i], ENOSYS, 0, NULL);
    return rc;
}

/* New namespaces, one flag at a time: a rule can only compare under a mask. */
static int deny_namespaces(const struct rules *r)
{
    int rc = 0;
    for (unsigned bit = 1; bit && rc == 0; bit <<= 1) {
        if (!(NAMESPACES & bit))
            continue;
        struct scmp_arg_cmp has = SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit);
        rc = deny(r, "unshare", EPERM, 1, &has);
        if (rc == 0 && bit != 0x80) /* clone has the exit signal there */
            rc = deny(r, "clone", EPERM, 1, &has);
    }
    return rc;
}

/* Local, internet and route sockets; the other families are attack surface (vsock reaches the
 * hypervisor, alg and packet the kernel's less used parts). */
static int deny_sockets(const struct rules *r)
{
    int rc = 0;
    for (unsigned family = 0; family <= AF_NETLINK && rc == 0; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK)
            continue;
        struct scmp_arg_cmp is = SCMP_A0(SCMP_CMP_EQ, family);
        rc = deny(r, "socket", EAFNOSUPPORT, 1, &is);
    }
    struct scmp_arg_cmp above = SCMP_A0(SCMP_CMP_GT, AF_NETLINK);
    if (rc == 0)
        rc = deny(r, "socket", EAFNOSUPPORT, 1, &above);
    struct scmp_arg_cmp other_netlink[] = {SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
                                           SCMP_A2(SCMP_CMP_NE, 0)};
    return rc ? rc : deny(r, "socket", EAFNOSUPPORT, 2, other_netlink);
}

/* Putting characters into a terminal's input, and the console's selection. */
static int deny_ioctls(const struct rules *r)
{
    static const unsigned requests[] = {TIOCSTI, TIOCLINUX};
    int rc = 0;
    for (size_t i = 0; i < COUNT_OF(requests) && rc == 0; i++) {
        struct scmp_arg_cmp is = SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, requests[i]);
        rc = deny(r, "ioctl", EPERM, 1, &is);
    }
    return rc;
}

/* Files of memory that nobody maps count for no process, so only a cgroup can bound them. */
static int deny_memory_files(const struct rules *r)
{
    int rc = deny(r, "memfd_create", ENOSYS, 0, NULL);
    return rc ? rc : deny(r, "memfd_secret", ENOSYS, 0, NULL);
}

static int deny_all(const struct rules *r, bool memory_counted)
{
    int rc = deny_lists(r);
    if (rc == 0)
        rc = deny_namespaces(r);
    if (rc == 0)
        rc = deny_sockets(r);
    if (rc == 0)
        rc = deny_ioctls(r);
    return rc || memory_counted ? rc : deny_memory_files(r);
}

int seccomp_make(bool memory_counted, int *ret_fd, struct err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return err_set(err, ERR_INTERNAL, "libseccomp cannot make a filter");
    AUTO_FD int fd = memfd_create("seccomp", MFD_CLOEXEC);
    /* Another architecture's calls have other numbers, which no rule here knows. */
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = deny_all(&(struct rules){.ctx = ctx}, memory_counted);
    if (rc == 0)
        rc = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    seccomp_release(ctx);
    if (rc)
        return err_sys(err, -rc, "libseccomp");
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void seccomp_write(struct jw *w, bool memory_counted)
{
    /* Other architectures are killed by the runtime's library: none but ours is listed. */
    static const char *const native =
#if defined __x86_64__
        "SCMP_ARCH_X86_64";
#elif defined __aarch64__
        "SCMP_ARCH_AARCH64";
#else
        NULL;
#endif
    jw_obj(w);
    jw_kz(w, "defaultAction", "SCMP_ACT_ALLOW");
    jw_key(w, "architectures");
    jw_arr(w);
    if (native)
        jw_z(w, native);
    jw_arr_end(w);
    jw_key(w, "syscalls");
    jw_arr(w);
    int rc = deny_all(&(struct rules){.json = w}, memory_counted);
    jw_arr_end(w);
    jw_obj_end(w);
    (void)rc; /* writing has no errors of its own */
}
