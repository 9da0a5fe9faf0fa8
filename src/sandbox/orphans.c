#include "sandbox/orphans.h"

#include "base/buf.h"
#include "base/fd.h"
#include "sandbox/impl.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_bwrap(int64_t pid)
{
    char path[64];
    AUTO_BUF struct buf name = BUF_INIT(256);
    snprintf(path, sizeof path, "/proc/%lld/comm", (long long)pid);
    return fd_read_file(path, &name, NULL) == 0 && str_eqz(str_trim(buf_view(&name)), "bwrap");
}

/* Field 4 of /proc/PID/stat; -1 where it cannot be read. */
static int64_t parent_of(int64_t pid)
{
    char path[64];
    AUTO_BUF struct buf text = BUF_INIT(4096);
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    if (fd_read_file(path, &text, NULL) != 0 || text.len == 0)
        return -1;
    buf_ch(&text, '\0');
    const char *p = strrchr(text.data, ')');
    struct str rest = p ? str_z(p + 1) : STR_NONE;
    int64_t parent = -1;
    for (int i = 0; i < 2 && str_some(rest); i++)
        str_split(&rest, ' '); /* nothing, the state */
    return str_i64(str_split(&rest, ' '), &parent) ? parent : -1;
}

/* An orphan that the kernel shows in a read of an eventfd (some kernels name what that calls):
 * nobody is left who could write to it. */
static bool waits_for_parent(int64_t pid)
{
    char path[64];
    AUTO_BUF struct buf at = BUF_INIT(4096);
    snprintf(path, sizeof path, "/proc/%lld/wchan", (long long)pid);
    return fd_read_file(path, &at, NULL) == 0 && (str_starts(buf_view(&at), STR("eventfd")) ||
                                                  str_eqz(buf_view(&at), "do_wait_intr_irq"));
}

void orphans_end(void)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    while (d && (e = readdir(d))) {
        int64_t pid;
        if (!str_i64(str_z(e->d_name), &pid) || !is_bwrap(pid))
            continue;
        int64_t start = process_start_time(pid), parent = parent_of(pid);
        if (parent >= 0 && !is_bwrap(parent) && waits_for_parent(pid))
            process_kill(pid, start);
    }
    if (d)
        closedir(d);
}
