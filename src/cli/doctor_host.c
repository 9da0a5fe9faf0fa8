/* doctor: addresses, clock, the server's own limits, programs. */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "cli/lock.h"
#include "cli/proc.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* The year of this source: a clock that stands before it was never set. */
#define WALL_LEAST_US (INT64_C(1767225600) * 1000000)
#define WALL_MOST_US (INT64_C(4102444800) * 1000000)
enum {
    FILES_WANTED = LIMIT_HTTP_CONNECTIONS + 1024,
    AHEAD_US = 60 * 1000000,
    DRIFT_US = 200 * 1000
};

/* ---- the address ---- */

/* As the server would bind it; 0 or an errno. */
static int try_bind(const struct config *c)
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    snprintf(port, sizeof port, "%d", c->port);
    if (getaddrinfo(c->host, port, &hints, &list) != 0)
        return EADDRNOTAVAIL;
    int sys = EADDRNOTAVAIL;
    for (struct addrinfo *a = list; a && sys; a = a->ai_next) {
        AUTO_FD int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        int on = 1;
        sys = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
                      bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 1) < 0
                  ? errno
                  : 0;
    }
    freeaddrinfo(list);
    return sys;
}

static void add_address(struct doctor *d, const char *address)
{
    int sys = try_bind(&d->config);
    struct doctor_check *c;
    if (sys == 0 && d->config.loopback) {
        c = doctor_add(d, "listen", DOCTOR_OK, "%s is free", address);
    } else if (sys == 0) {
        c = doctor_add(d, "listen", DOCTOR_WARN,
                       "%s is free, and reached from other hosts without "
                       "TLS",
                       address);
        doctor_remedy(c, "put a TLS proxy in front, or listen on 127.0.0.1");
    } else {
        c = doctor_add(d, "listen", DOCTOR_FAIL, "%s: %s", address, strerror(sys));
        doctor_remedy(c, sys == EADDRINUSE ? "another program listens there: stop it, or choose "
                                             "another port with --listen HOST:PORT"
                         : sys == EACCES
                             ? "ports below 1024 are root's: choose another with "
                               "--listen HOST:PORT"
                             : "choose an address of this host with --listen HOST:PORT");
    }
    doctor_fact_str(c, "address", address);
    doctor_fact_bool(c, "loopback", d->config.loopback);
}

static void check_address(struct doctor *d)
{
    char address[300];
    bool v6 = strchr(d->config.host, ':') != NULL;
    snprintf(address, sizeof address, "%s%s%s:%d", v6 ? "[" : "", d->config.host, v6 ? "]" : "",
             d->config.port);
    struct lock_owner owner;
    lock_look(d->config.data, &owner);
    struct doctor_check *c;
    if (owner.pid > 0) {
        c = doctor_add(d, "server", DOCTOR_OK, "process %d serves this data directory at %s",
                       owner.pid, owner.url[0] ? owner.url : "an address not told yet");
        doctor_fact_i64(c, "pid", owner.pid);
        doctor_fact_str(c, "url", owner.url);
    } else {
        c = doctor_add(d, "server", DOCTOR_OK, "none runs on this data directory");
        doctor_fact_i64(c, "pid", 0);
        doctor_fact_str(c, "url", NULL);
    }
    size_t url_len = strlen(owner.url), len = strlen(address);
    bool by_it = owner.pid > 0 && url_len > len && strcmp(owner.url + url_len - len, address) == 0;
    if (by_it)
        doctor_add(d, "listen", DOCTOR_OK, "%s is where that server listens", address);
    else
        add_address(d, address);
}

/* ---- limits of the server ---- */

static void check_files(struct doctor *d)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    bool low = r.rlim_max < FILES_WANTED;
    struct doctor_check *c =
        doctor_add(d, "limits.files", low ? DOCTOR_WARN : DOCTOR_OK,
                   "%" PRIu64 " open files, which the server raises to at most %" PRIu64,
                   (uint64_t)r.rlim_cur, (uint64_t)r.rlim_max);
    doctor_fact_i64(c, "soft", (int64_t)r.rlim_cur);
    doctor_fact_i64(c, "hard", (int64_t)r.rlim_max);
    if (low)
        doctor_remedy(c,
                      "raise the hard limit to %d (LimitNOFILE= in systemd, ulimit -Hn): each "
                      "connection, stream and sandbox takes one",
                      FILES_WANTED);
}

static void check_processes(struct doctor *d)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NPROC, &r) < 0)
        return;
    bool all = r.rlim_cur == RLIM_INFINITY;
    /* A sandbox that runs as us shares it with us. */
    bool low = !all && geteuid() != 0 && r.rlim_cur < 1024;
    char number[32] = "unlimited";
    if (!all)
        snprintf(number, sizeof number, "%" PRIu64, (uint64_t)r.rlim_cur);
    struct doctor_check *c = doctor_add(d, "limits.processes", low ? DOCTOR_WARN : DOCTOR_OK,
                                        "%s processes of this user", number);
    doctor_fact_i64(c, "soft", all ? -1 : (int64_t)r.rlim_cur);
    if (low)
        doctor_remedy(c, "raise it to 4096 or more (LimitNPROC= in systemd, ulimit -u)");
}

/* ---- programs ---- */

static void check_program(struct doctor *d, const char *program, enum doctor_state without,
                          const char *what_for)
{
    char name[64];
    AUTO_BUF struct buf said = BUF_INIT(64 * 1024);
    const char *argv[] = {program, "--version", NULL};
    struct proc p = {.argv = argv, .out = &said};
    struct err err = {0};
    snprintf(name, sizeof name, "program.%s", program);
    int rc = proc_run(&p, &err);
    struct str line = str_trim(buf_view(&said));
    line = str_split(&line, '\n');
    if (rc == 0) {
        char version[128];
        (void)str_copyz(version, sizeof version, str_utf8_take(line, sizeof version - 1));
        struct doctor_check *c = doctor_add(d, name, DOCTOR_OK, "%s", version);
        doctor_fact_str(c, "version", version);
        return;
    }
    struct doctor_check *c =
        rc < 0 ? doctor_add(d, name, without, "%s", err.msg)
               : doctor_add(d, name, without, "%s --version ends with %d", program, rc);
    doctor_fact_str(c, "version", NULL);
    doctor_remedy(c, "install it (Debian: apt-get install %s): %s",
                  strcmp(program, "bwrap") == 0 ? "bubblewrap" : program, what_for);
}

/* ---- the clock ---- */

/* -1: the kernel does not say. */
static int synchronised(void)
{
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);
    return state < 0 ? -1 : state != TIME_ERROR && !(t.status & STA_UNSYNC);
}

/* When the data was last written, by the clock of then; 0: there is none. */
static int64_t data_written_us(const struct doctor *d)
{
    char path[DOCTOR_PATH + 16];
    struct stat st;
    snprintf(path, sizeof path, "%s/ostler.db", d->config.data);
    return stat(path, &st) == 0 ? (int64_t)st.st_mtim.tv_sec * 1000000 : 0;
}

static const char set_it[] =
    "set the clock and keep it right (chrony, systemd-timesyncd): ids, expiries and what clients "
    "see follow it";

void doctor_clock(struct doctor *d)
{
    int64_t wall_us = clock_unix_us(), mono_us = clock_mono_us();
    int64_t drift_us = (wall_us - d->began_wall_us) - (mono_us - d->began_mono_us);
    int64_t ahead_us = data_written_us(d) - wall_us;
    int sync = synchronised();
    char now[CLOCK_TEXT_MAX];
    clock_format(now, wall_us);
    struct doctor_check *c;
    if (mono_us < d->began_mono_us) {
        c = doctor_add(d, "clock", DOCTOR_FAIL, "the monotonic clock goes backwards");
        doctor_remedy(c, "time-outs cannot work here: it is a defect of the kernel or of the "
                         "virtual machine");
    } else if (wall_us < WALL_LEAST_US || wall_us > WALL_MOST_US) {
        c = doctor_add(d, "clock", DOCTOR_WARN, "%s cannot be the time", now);
        doctor_remedy(c, "%s", set_it);
    } else if (ahead_us > AHEAD_US) {
        c = doctor_add(d, "clock", DOCTOR_WARN,
                       "%s is %" PRId64 " s before the database was last written", now,
                       ahead_us / 1000000);
        doctor_remedy(c, "%s", set_it);
    } else if (drift_us > DRIFT_US || drift_us < -DRIFT_US) {
        c = doctor_add(d, "clock", DOCTOR_WARN, "the wall clock was set by %.1f s just now",
                       (double)drift_us / 1e6);
        doctor_remedy(c, "%s", set_it);
    } else {
        c = doctor_add(d, "clock", DOCTOR_OK,
                       "%s; it goes as the monotonic clock does and is not behind the data; the "
                       "kernel %s. How far off it is cannot be told without asking others",
                       now,
                       sync < 0 ? "does not say whether it is synchronised"
                       : sync   ? "calls it synchronised"
                                : "does not call it synchronised");
    }
    doctor_fact_i64(c, "drift_us", drift_us);
    if (sync < 0)
        doctor_fact_str(c, "synchronised", NULL);
    else
        doctor_fact_bool(c, "synchronised", sync);
}

void doctor_host(struct doctor *d)
{
    check_address(d);
    check_files(d);
    check_processes(d);
    check_program(d, "bwrap", DOCTOR_FAIL, "tools run in its sandboxes only");
    if (d->config.oci_driver)
        check_program(d, d->config.oci.runtime ? d->config.oci.runtime : "runc", DOCTOR_FAIL,
                      "tools run in its containers only");
    check_program(d, "git", DOCTOR_WARN,
                  "`ostler run` and the workspaces' patches are made with it");
}
