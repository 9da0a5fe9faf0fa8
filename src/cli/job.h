/* job: one task for one agent on one directory, from finding a server to the patch on disk.
 *
 * Main thread, on a loop of its own; `ostler run` and `ostler demo` are made of it. Lives on the
 * caller's stack from job_open() to job_close().
 */
#ifndef OSTLER_CLI_JOB_H
#define OSTLER_CLI_JOB_H

#include "cli/child.h"
#include "cli/client.h"
#include "cli/follow.h"
#include "cli/pack.h"
#include "cli/rubric_file.h"
#include "cli/transcript.h"

struct job_options {
    const char *task, *dir;
    const char *model;   /* NULL: the server's default */
    const char *server;  /* NULL: the one that owns `data`, else one of our own */
    const char *data;    /* data directory */
    const char *out;     /* patch file; NULL: ostler-<session>.patch */
    const char *outputs; /* directory; NULL: ostler-outputs-<session> */
    const char *system;  /* NULL: a short default */
    const char *allow;   /* "a.example,*.b.example"; NULL: no host */
    bool keep, json, include_ignored;
    bool own_only;        /* take no running server, and never leave a session behind (the demo) */
    int64_t timeout_s;    /* 0: none */
    int64_t budget_cents; /* 0: none */
    const struct rubric_file *rubric; /* the task is to be done by it; NULL: nobody grades */
    int64_t max_iterations;           /* 0: what the rubric says, else the server's default */
};

enum job_end {
    JOB_RUNNING,
    JOB_DONE,        /* end of turn */
    JOB_STOPPED,     /* refusal, retries exhausted, waiting for an answer, terminated, ... */
    JOB_INTERRUPTED, /* by Ctrl-C or the time limit, and the turn has ended */
    JOB_LEFT,        /* the second Ctrl-C: it goes on without us */
    JOB_LOST,        /* the server is gone for good */
};

struct job {
    struct job_options opt;
    struct loop *loop;
    struct client client;
    struct child child; /* used when `own` */
    bool own;           /* the server is ours: stopped at the end */
    struct follow follow;
    bool following;
    struct transcript transcript;
    struct pack_stats packed;
    char model[256], session[64], agent[64], environment[64];
    char stop_reason[64];
    char patch_path[4096], outputs_path[4096];
    enum job_end end;
    /* of the outcome, when there is a rubric; "": nothing yet */
    char outcome[64], result[64], closing[64];
    int64_t evaluations;
    int64_t patch_bytes;
    bool patch_checked, patch_applies;
    char patch_problem[ERR_MSG_MAX];
    struct unpack_stats outputs;
    bool stream_open, mute, timed_out, child_died;
    int child_status; /* as from waitpid */
    int restarts, signals;
    int64_t restart_delay_ms; /* before a dead server of our own is started again */
    int64_t started_ms, ended_ms;
    struct loop_timer timer, pause;
    int open_timers;
    struct http_call *interrupt_call;
    struct err err;
    /* Sees every event before it is shown; NULL: nobody looks. For the demo. */
    void (*watch)(struct job *j, const struct follow_event *ev);
    void *watch_arg;
};

/* Finds or starts a server. CONNECT when neither works (exit code 3). */
int job_open(struct job *j, const struct job_options *opt, struct err *err) MUST_USE;
/* Creates agent, environment and session, brings the directory in. */
int job_prepare(struct job *j, struct err *err) MUST_USE;
/* Sends the task and shows what happens until the turn ends; sets `end`. */
int job_follow(struct job *j, struct err *err) MUST_USE;
/* Writes the patch and the outputs, checks the patch. */
int job_collect(struct job *j, struct err *err) MUST_USE;
/* Whether what was left behind satisfies the rubric: also when only its last grading says so. */
bool job_satisfied(const struct job *j);
void job_summary(struct job *j);
/* Archives what was created (unless kept), stops a server of our own, frees. */
void job_close(struct job *j);

/* All of it; returns a cli_exit. `name` is the command for error messages. */
int job_run(const struct job_options *opt, const char *name);

int job_connect(struct job *j, struct err *err) MUST_USE; /* job_open's part in job_server.c */
void job_flush(struct job *j); /* writes the transcript's buffer to stdout */
/* An unlinked file beside other temporary files: its content may be larger than memory. */
int job_temporary_file(struct err *err) MUST_USE;
/* A request of the job's client, surviving the death of a server of our own. */
int job_send(struct job *j, const struct client_request *r, struct buf *out,
             struct err *err) MUST_USE;
int job_json(struct job *j, const char *method, const char *path, struct str body, struct arena *a,
             const struct json **out, struct err *err) MUST_USE;
/* Starts a dead server of our own again; does nothing when it runs. */
int job_revive(struct job *j, struct err *err) MUST_USE;

#endif
