/* demo: what demo.c (the show) and demo_check.c (the proof) share. Main thread; on its stack. */
#ifndef OSTLER_CLI_DEMO_H
#define OSTLER_CLI_DEMO_H

#include "cli/job.h"

struct demo {
    struct job job;
    bool fast;
    char dir[512]; /* everything of the demo lies below it */
    char repo[600], data[600], patch[600], outputs[600];

    /* what happened */
    struct loop_timer kill_timer;
    bool kill_timer_open;
    int killed_pid;       /* 0: not yet */
    bool answered_before; /* the tool call's result came before the kill */
    char call[64];        /* the tool call that the kill hit */
    size_t shown;         /* events displayed */

    /* what the log says of it */
    size_t logged, calls, answers;
};

/* Reads the session's log and checks that everything the demo shows has really happened. INVALID
 * with what has not. */
int demo_check(struct demo *d, struct err *err) MUST_USE;

/* A finished copy of a repository that has the files the scripted model works on, in `to`. */
int demo_clone(const char *to, char from[4096], struct err *err) MUST_USE;
void demo_remove_tree(const char *dir);

#endif
