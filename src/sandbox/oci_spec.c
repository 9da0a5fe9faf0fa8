/* The configuration of one container, as OCI runtimes read it (config.json, version 1.0.2). */
#include "sandbox/oci.h"

#include "base/fd.h"
#include "json/writer.h"
#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SPEC_MAX = 4 << 20, VARIABLES_MAX = 768, CPU_PERIOD_US = 100000, SHM_MB = 256 };

/* ---- the process ---- */

struct variables {
    struct {
        struct str name, value;
    } all[VARIABLES_MAX];
    size_t n;
};

/* Later ones win. */
static void set(struct variables *v, struct str name, struct str value)
{
    size_t i = 0;
    while (i < v->n && !str_eq(v->all[i].name, name))
        i++;
    if (i == VARIABLES_MAX)
        return;
    v->all[i].name = name;
    v->all[i].value = value;
    v->n += i == v->n;
}

static void write_variables(struct jw *w, const struct oci_spec *s)
{
    static const char *const usual[][2] = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        {"LANG", "C.UTF-8"},
        {"SHELL", "/bin/bash"},
    };
    static const char *const ours[][2] = {
        {"HOME", "/home/agent"}, {"USER", "root"}, {"TERM", "dumb"}};
    const char *const *own = s->how->all->variables;
    struct variables v = {.n = 0};
    for (size_t i = 0; i < COUNT_OF(usual); i++)
        set(&v, str_z(usual[i][0]), str_z(usual[i][1]));
    for (size_t i = 0; s->image && s->image[i]; i++) {
        struct str value = str_z(s->image[i]), name = str_split(&value, '=');
        if (name.len)
            set(&v, name, str_some(value) ? value : STR(""));
    }
    for (size_t i = 0; i < COUNT_OF(ours); i++)
        set(&v, str_z(ours[i][0]), str_z(ours[i][1]));
    for (size_t i = 0; own && own[i]; i += 2)
        set(&v, str_z(own[i]), str_z(own[i + 1]));
    AUTO_BUF struct buf text = BUF_INIT(SPEC_MAX);
    jw_key(w, "env");
    jw_arr(w);
    for (size_t i = 0; i < v.n; i++) {
        buf_clear(&text);
        buf_str(&text, v.all[i].name);
        buf_ch(&text, '=');
        buf_str(&text, v.all[i].value);
        jw_str(w, buf_view(&text));
    }
    jw_arr_end(w);
}

/* What is tighter already stays so: the container could not have more. */
static void write_rlimit(struct jw *w, const char *name, __rlimit_resource_t what, int64_t n)
{
    struct rlimit now;
    if (getrlimit(what, &now) == 0 && now.rlim_max < (rlim_t)n)
        n = (int64_t)now.rlim_max;
    jw_obj(w);
    jw_kz(w, "type", name);
    jw_ki64(w, "hard", n);
    jw_ki64(w, "soft", n);
    jw_obj_end(w);
}

static void write_capabilities(struct jw *w, uint64_t mask)
{
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    static const char *const names[] = {"CAP_CHOWN",  "CAP_DAC_OVERRIDE", NULL,
                                        "CAP_FOWNER", "CAP_FSETID",       "CAP_KILL",
                                        "CAP_SETGID", "CAP_SETUID"};
    jw_key(w, "capabilities");
    jw_obj(w);
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        jw_key(w, sets[i]);
        jw_arr(w);
        for (size_t k = 0; k < COUNT_OF(names); k++)
            if (names[k] && mask >> k & 1)
                jw_z(w, names[k]);
        jw_arr_end(w);
    }
    jw_obj_end(w);
}

static void write_process(struct jw *w, const struct oci_spec *s)
{
    const struct recipe_how *all = s->how->all;
    jw_key(w, "process");
    jw_obj(w);
    jw_kbool(w, "terminal", false);
    jw_key(w, "user");
    jw_obj(w);
    jw_ki64(w, "uid", 0);
    jw_ki64(w, "gid", 0);
    jw_obj_end(w);
    jw_key(w, "args");
    jw_arr(w);
    for (size_t i = 0; all->command[i]; i++)
        jw_z(w, all->command[i]);
    jw_arr_end(w);
    write_variables(w, s);
    jw_kz(w, "cwd", all->chdir ? all->chdir : "/");
    jw_kbool(w, "noNewPrivileges", true);
    write_capabilities(w, s->capabilities);
    jw_key(w, "rlimits");
    jw_arr(w);
    write_rlimit(w, "RLIMIT_CORE", RLIMIT_CORE, 0);
    write_rlimit(w, "RLIMIT_NOFILE", RLIMIT_NOFILE, 65536);
    if (all->file_mb)
        write_rlimit(w, "RLIMIT_FSIZE", RLIMIT_FSIZE, all->file_mb << 20);
    jw_arr_end(w);
    jw_obj_end(w);
}

/* ---- mounts ---- */

static void write_mount(struct jw *w, const char *to, const char *type, const char *from,
                        const char *const *options)
{
    jw_obj(w);
    jw_kz(w, "destination", to);
    jw_kz(w, "type", type);
    jw_kz(w, "source", from);
    jw_key(w, "options");
    jw_arr(w);
    for (size_t i = 0; options[i]; i++)
        jw_z(w, options[i]);
    jw_arr_end(w);
    jw_obj_end(w);
}

static void write_bind(struct jw *w, const struct oci_spec *s, const char *name, const char *to,
                       bool writable)
{
    char from[PATH_MAX];
    const char *const options[] = {"bind", "nosuid", "nodev", writable ? "rw" : "ro", NULL};
    snprintf(from, sizeof from, "%s/%s", s->stage, name);
    write_mount(w, to, "bind", from, options);
}

static void write_mounts(struct jw *w, const struct oci_spec *s)
{
    const struct recipe_how *all = s->how->all;
    int64_t shm_mb = all->shm_mb > 0 && all->shm_mb < SHM_MB ? all->shm_mb : SHM_MB;
    char size[32], name[64];
    snprintf(size, sizeof size, "size=%" PRId64, shm_mb << 20);
    const char *const proc[] = {"nosuid", "noexec", "nodev", NULL};
    const char *writable = all->read_only ? "ro" : "rw";
    const char *const dev[] = {"nosuid",      "noexec", "strictatime", "mode=755",
                               "size=65536k", writable, NULL};
    const char *const pts[] = {"nosuid",        "noexec",    "newinstance",
                               "ptmxmode=0666", "mode=0620", NULL};
    const char *const shm[] = {"nosuid", "nodev", "mode=1777", size, NULL};
    const char *const run[] = {"nosuid", "nodev", "mode=755", "size=16m", writable, NULL};
    jw_key(w, "mounts");
    jw_arr(w);
    if (all->read_only && !all->root.base) /* a file system of its own below the root */
        write_bind(w, s, "root/usr", "/usr", false);
    write_mount(w, "/proc", "proc", "proc", proc);
    write_mount(w, "/dev", "tmpfs", "tmpfs", dev);
    write_mount(w, "/dev/pts", "devpts", "devpts", pts);
    write_mount(w, "/dev/shm", "tmpfs", "shm", shm);
    write_mount(w, "/run", "tmpfs", "tmpfs", run);
    static const char *const made[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; s->etc && i < COUNT_OF(made); i++) {
        char to[64];
        snprintf(name, sizeof name, "%s/%s", s->etc, made[i]);
        snprintf(to, sizeof to, "/etc/%s", made[i]);
        write_bind(w, s, name, to, false);
    }
    for (size_t i = 0; i < all->nmounts; i++) {
        /* It is below the root already, where it can be written to. */
        if (str_eqz(str_z(all->mounts[i].inside), "/opt"))
            continue;
        snprintf(name, sizeof name, "%zu", i);
        write_bind(w, s, name, all->mounts[i].inside, all->mounts[i].writable);
    }
    jw_arr_end(w);
}

/* ---- Linux ---- */

static void write_ids(struct jw *w, const char *key, int64_t first)
{
    const int64_t parts[][3] = {{0, first, OCI_IDS - 1}, {65534, first + OCI_IDS - 1, 1}};
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        jw_obj(w);
        jw_ki64(w, "containerID", parts[i][0]);
        jw_ki64(w, "hostID", parts[i][1]);
        jw_ki64(w, "size", parts[i][2]);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void write_list(struct jw *w, const char *key, const char *const *list)
{
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; list[i]; i++)
        jw_z(w, list[i]);
    jw_arr_end(w);
}

/* The group exists with its limits; a runtime with a kernel of its own must know them as well. */
static void write_resources(struct jw *w, const struct oci_spec *s)
{
    const struct cgroup_limits *l = &s->how->limits;
    jw_key(w, "resources");
    jw_obj(w);
    if (s->cgroup) {
        jw_key(w, "memory");
        jw_obj(w);
        jw_ki64(w, "limit", l->memory_mb << 20);
        jw_obj_end(w);
        jw_key(w, "pids");
        jw_obj(w);
        jw_ki64(w, "limit", l->pids);
        jw_obj_end(w);
        jw_key(w, "cpu");
        jw_obj(w);
        jw_ki64(w, "quota", l->cpus * CPU_PERIOD_US);
        jw_ki64(w, "period", CPU_PERIOD_US);
        jw_obj_end(w);
    }
    jw_key(w, "devices");
    jw_arr(w);
    jw_obj(w);
    jw_kbool(w, "allow", false);
    jw_kz(w, "access", "rwm");
    jw_obj_end(w);
    jw_arr_end(w);
    jw_obj_end(w);
}

static void write_linux(struct jw *w, const struct oci_spec *s)
{
    static const char *const namespaces[] = {"pid",     "ipc",  "uts",    "mount",
                                             "network", "user", "cgroup", NULL};
    static const char *const masked[] = {
        "/proc/acpi",       "/proc/asound",        "/proc/kcore",       "/proc/keys",
        "/proc/key-users",  "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list", "/proc/timer_stats",   "/proc/config.gz",   NULL};
    static const char *const readonly[] = {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};
    jw_key(w, "linux");
    jw_obj(w);
    jw_key(w, "namespaces");
    jw_arr(w);
    for (size_t i = 0; namespaces[i]; i++) {
        jw_obj(w);
        jw_kz(w, "type", namespaces[i]);
        jw_obj_end(w);
    }
    jw_arr_end(w);
    write_ids(w, "uidMappings", s->how->all->uid);
    write_ids(w, "gidMappings", s->how->all->uid);
    if (s->cgroup)
        jw_kz(w, "cgroupsPath", s->cgroup);
    write_resources(w, s);
    jw_key(w, "seccomp");
    seccomp_write(w, s->cgroup != NULL);
    write_list(w, "maskedPaths", masked);
    write_list(w, "readonlyPaths", readonly);
    jw_obj_end(w);
}

int oci_spec_write(const struct oci_spec *s, const char *path, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(SPEC_MAX);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "ociVersion", "1.0.2");
    jw_key(&w, "root");
    jw_obj(&w);
    jw_kz(&w, "path", s->root);
    jw_kbool(&w, "readonly", s->how->all->read_only);
    jw_obj_end(&w);
    jw_kz(&w, "hostname", "sandbox");
    write_process(&w, s);
    write_mounts(&w, s);
    write_linux(&w, s);
    jw_obj_end(&w);
    jw_done(&w);
    if (!buf_ok(&b))
        return err_set(err, ERR_LIMIT, "the sandbox's variables are too long");
    unlink(path);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_sys(err, errno, "%s", path) : fd_write_all(fd, buf_view(&b), err);
}
