/* sim: runs seeds; replays one; finds the planted bugs. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options {
    uint64_t from;
    int64_t count;
    int actions, jobs;
    bool verbose, bugs;
    enum sim_bug bug;
};

struct totals {
    int64_t seeds, commits, crashes, requests, tools, losses, evaluations;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool run_one(uint64_t seed, int actions, bool verbose, struct totals *sum, char *why,
                    int *done)
{
    struct sim *s = mem_zalloc(sizeof *s);
    bool ok = sim_run(s, seed, actions, verbose);
    if (why)
        snprintf(why, sizeof s->failure, "%s", s->failure);
    if (done)
        *done = (int)s->actions_done;
    if (sum) {
        sum->seeds++;
        sum->commits += s->commits;
        sum->crashes += s->crashes;
        sum->requests += s->requests;
        sum->tools += s->tool_runs;
        sum->losses += s->losses;
        sum->evaluations += s->evaluations;
    }
    sim_free(s);
    mem_free(s);
    return ok;
}

/* The fewest actions with which the seed still fails. */
static int minimise(uint64_t seed, int actions)
{
    int least = actions;
    for (int step = actions / 2; step > 0; step /= 2)
        while (least - step >= 0 && !run_one(seed, least - step, false, NULL, NULL, NULL))
            least -= step;
    return least;
}

static bool run_seeds(const struct options *o, int job, struct totals *sum)
{
    char why[1024];
    int actions;
    for (int64_t i = job; i < o->count; i += o->jobs) {
        uint64_t seed = o->from + (uint64_t)i;
        if (run_one(seed, o->actions, o->verbose, sum, why, &actions))
            continue;
        printf("seed %" PRIu64 " breaks a rule %s\n", seed, why);
        fflush(stdout);
        if (!o->verbose) {
            int least = minimise(seed, actions);
            printf("replay: tests/sim/sim --seed %" PRIu64 " --actions %d --verbose\n", seed,
                   least);
        }
        fflush(stdout);
        return false;
    }
    return true;
}

static int spread(const struct options *o)
{
    int pipes[64][2], bad = 0;
    double began = now_s();
    struct totals sum = {0}, part;
    for (int j = 0; j < o->jobs; j++) {
        if (pipe(pipes[j]))
            return 2;
        fflush(stdout);
        if (fork() == 0) {
            struct totals mine = {0};
            bool ok = run_seeds(o, j, &mine);
            fflush(stdout);
            _exit(write(pipes[j][1], &mine, sizeof mine) == sizeof mine && ok ? 0 : 1);
        }
        close(pipes[j][1]);
    }
    for (int j = 0; j < o->jobs; j++) {
        if (read(pipes[j][0], &part, sizeof part) == sizeof part) {
            sum.seeds += part.seeds;
            sum.commits += part.commits;
            sum.crashes += part.crashes;
            sum.requests += part.requests;
            sum.tools += part.tools;
            sum.losses += part.losses;
            sum.evaluations += part.evaluations;
        }
        int status = 0;
        wait(&status);
        bad += status != 0;
    }
    printf("%" PRId64 " seeds from %" PRIu64 " in %.1f s: %" PRId64 " commits, %" PRId64
           " crashes, %" PRId64 " losses of files, %" PRId64 " model requests, %" PRId64
           " tool runs, %" PRId64 " evaluations; %s\n",
           sum.seeds, o->from, now_s() - began, sum.commits, sum.crashes, sum.losses, sum.requests,
           sum.tools, sum.evaluations, bad ? "a rule was broken" : "no rule was broken");
    return bad ? 1 : 0;
}

/* Each bug in a process of its own: what it breaks may be anything. */
static int find_bug(enum sim_bug bug, uint64_t from)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        sim_bug = bug;
        for (int i = 0; i < bug_seeds(bug); i++) {
            char why[1024];
            if (run_one(from + (uint64_t)i, -1, false, NULL, why, NULL))
                continue;
            printf("ok %d - %s (%s): seed %d of %d: %s\n", (int)bug, bug_name(bug), bug_text(bug),
                   i + 1, bug_seeds(bug), why);
            fflush(stdout);
            _exit(0);
        }
        printf("not ok %d - %s (%s): not found in %d seeds\n", (int)bug, bug_name(bug),
               bug_text(bug), bug_seeds(bug));
        fflush(stdout);
        _exit(1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("not ok %d - %s ended the process with signal %d\n", (int)bug, bug_name(bug),
               WTERMSIG(status));
    return status != 0;
}

static int find_bugs(const struct options *o)
{
    int missed = 0;
    printf("1..%d\n", BUG_COUNT - 1);
    for (int b = BUG_NONE + 1; b < BUG_COUNT; b++)
        missed += find_bug((enum sim_bug)b, o->from);
    printf("# %d of %d planted bugs found\n", BUG_COUNT - 1 - missed, BUG_COUNT - 1);
    return missed != 0;
}

static const char usage[] =
    "usage: sim [--seeds COUNT] [--from SEED] [--jobs N]   run seeds; prints the one that fails\n"
    "       sim --seed SEED [--actions N] [--verbose]      replay one\n"
    "       sim --bugs                                     find each of the planted bugs\n"
    "       sim --bug NAME ...                             with that bug switched on\n";

static enum sim_bug bug_of(const char *name)
{
    for (int b = BUG_NONE; b < BUG_COUNT; b++)
        if (strcmp(name, bug_name((enum sim_bug)b)) == 0)
            return (enum sim_bug)b;
    fprintf(stderr, "sim: there is no bug %s\n", name);
    exit(2);
}

static bool read_options(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--verbose") == 0)
            o->verbose = true;
        else if (strcmp(arg, "--bugs") == 0)
            o->bugs = true;
        else if (!value)
            return false;
        else if (strcmp(arg, "--seed") == 0)
            o->from = strtoull(value, NULL, 10), o->count = 1, o->jobs = 1, i++;
        else if (strcmp(arg, "--seeds") == 0)
            o->count = strtoll(value, NULL, 10), i++;
        else if (strcmp(arg, "--from") == 0)
            o->from = strtoull(value, NULL, 10), i++;
        else if (strcmp(arg, "--jobs") == 0)
            o->jobs = (int)strtol(value, NULL, 10), i++;
        else if (strcmp(arg, "--actions") == 0)
            o->actions = (int)strtol(value, NULL, 10), i++;
        else if (strcmp(arg, "--bug") == 0)
            o->bug = bug_of(value), i++;
        else
            return false;
    }
    return o->jobs >= 1 && o->jobs <= 64 && o->count >= 1;
}

int main(int argc, char **argv)
{
    struct options o = {.from = 1, .count = 1000, .actions = -1, .jobs = 1};
    if (!read_options(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    sim_bug = o.bug;
    if (o.bugs)
        return find_bugs(&o);
    return spread(&o);
}
