/* hand: the executor inside a sandbox.
 *
 *   hand --fd N [options]        serve on the inherited listening socket N
 *   hand --launch [...] -- PROG  join cgroups, set limits, drop root, execute PROG (outside)
 *   hand --selftest --fd N ...   say what the sandbox around it holds, with the same options
 */
#include "hand/hand.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static int usage(const char *bad)
{
    fprintf(stderr,
            "hand: bad argument '%s'\n"
            "usage: hand --fd N [--workdir DIR] [--spill DIR] [--grace-ms N] [--landlock]\n"
            "            [--pids N] [--memory-mb N] [--wall-ms N] [--no-rg]\n"
            "            [--proxy-port N]\n"
            "       hand --launch OPTIONS -- PROGRAM ARGUMENTS\n"
            "       hand --build PORT FD -- PROGRAM ARGUMENTS\n"
            "       hand --selftest --fd N ...\n",
            bad);
    return 2;
}

/* What the tools' processes must not inherit. */
static void scrub_environment(void)
{
    for (size_t i = 0; environ[i];) {
        struct str e = str_z(environ[i]);
        if (!str_starts(e, STR("ANTHROPIC_")) && !str_starts(e, STR("OSTLER_"))) {
            i++;
            continue;
        }
        char name[256];
        struct str rest = e;
        if (!str_copyz(name, sizeof name, str_split(&rest, '=')) || unsetenv(name) < 0)
            i++;
    }
}

struct options {
    struct hand_config cfg;
    bool landlock;
    int64_t fd;
};

static bool parse(int argc, char **argv, struct options *o, const char **bad)
{
    struct {
        const char *name;
        int64_t *number;
        const char **text;
        bool *flag;
    } const table[] = {
        {"--fd", &o->fd, NULL, NULL},
        {"--grace-ms", &o->cfg.grace_ms, NULL, NULL},
        {"--pids", &o->cfg.watch_pids, NULL, NULL},
        {"--memory-mb", &o->cfg.watch_memory_mb, NULL, NULL},
        {"--wall-ms", &o->cfg.wall_ms, NULL, NULL},
        {"--proxy-port", &o->cfg.proxy_port, NULL, NULL},
        {"--workdir", NULL, &o->cfg.workdir, NULL},
        {"--spill", NULL, &o->cfg.spill_dir, NULL},
        {"--landlock", NULL, NULL, &o->landlock},
        {"--no-rg", NULL, NULL, &o->cfg.no_rg},
    };
    for (int i = 1; i < argc; i++) {
        bool known = false;
        *bad = argv[i];
        for (size_t k = 0; k < COUNT_OF(table) && !known; k++) {
            if (!str_eqz(str_z(argv[i]), table[k].name))
                continue;
            known = true;
            if (table[k].flag) {
                *table[k].flag = true;
            } else if (++i >= argc) {
                return false;
            } else if (table[k].text) {
                *table[k].text = argv[i];
            } else if (!str_i64(str_z(argv[i]), table[k].number) || *table[k].number < 0) {
                return false;
            }
        }
        if (!known)
            return false;
    }
    *bad = "--fd";
    return o->fd >= 3 && o->fd < 1024;
}

int main(int argc, char **argv)
{
    if (argc > 1 && str_eqz(str_z(argv[1]), "--launch"))
        return launch_main(argc - 2, argv + 2);
    if (argc > 1 && str_eqz(str_z(argv[1]), "--build"))
        return build_main(argc - 2, argv + 2);
    /* The self-test takes the options of the service, so that it fails where that would. */
    bool selftest = argc > 1 && str_eqz(str_z(argv[1]), "--selftest");
    struct options o = {.cfg = {.workdir = "/workspace",
                                .spill_dir = "/tmp/ostler-output",
                                .grace_ms = LIMIT_HAND_GRACE_MS}};
    const char *bad;
    if (!parse(argc - selftest, argv + selftest, &o, &bad))
        return usage(bad);
    if (o.cfg.watch_pids) {
        /* Counted per user namespace, so it bounds this sandbox and nothing else. */
        struct rlimit n = {(rlim_t)o.cfg.watch_pids, (rlim_t)o.cfg.watch_pids};
        setrlimit(RLIMIT_NPROC, &n);
    }
    if (selftest)
        return selftest_main();
    o.cfg.listen_fd = (int)o.fd;
    /* bubblewrap leaves descriptors open that belong to the outside. */
    close_range(3, (unsigned)o.cfg.listen_fd - 1, 0);
    close_range((unsigned)o.cfg.listen_fd + 1, ~0U, 0);
    fcntl(o.cfg.listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(o.cfg.listen_fd, F_SETFL, O_NONBLOCK);
    scrub_environment();
    umask(022);
    confine(o.landlock);
    return hand_serve(&o.cfg);
}
