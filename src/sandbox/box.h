/* box: one session's sandbox; shared by box.c (states), start.c (provisioning), link.c (talking to
 * the hand) and watch.c (limits and time); internal to sandbox/.
 *
 * Loop thread, but for the functions marked "worker", which run while the box waits for them. A box
 * lives from the first call of its session until it is destroyed or the server ends.
 */
#ifndef OSTLER_SANDBOX_BOX_H
#define OSTLER_SANDBOX_BOX_H

#include "base/buf.h"
#include "sandbox/build.h"
#include "sandbox/checkpoint.h"
#include "sandbox/impl.h"

enum box_state {
    BOX_ABSENT,
    BOX_FINDING,
    BOX_DIALING,
    BOX_RESTORING,
    BOX_PROVISIONING,
    BOX_PREPARING,
    BOX_STARTING,
    BOX_UP,
    BOX_CLEANING,
};

struct box_call {
    struct list node;
    struct id id;
    char *name, *input; /* in `text` */
    size_t input_len;
    bool first, existed, had; /* as in struct tool_call */
    bool cancelled;
    bool sent;           /* given to a hand of this box: it may have run */
    bool asked;          /* on the connection that is open now */
    int64_t deadline_ms; /* the hand must have answered by then; 0: it has not begun */
    void (*done)(void *arg, const struct tool_outcome *outcome);
    void *arg;
    char text[];
};

/* What is prepared for a start. The launcher is started at once and waits for its arguments, which
 * the worker writes to `tell`. */
struct start {
    struct sandbox_record record;
    struct id blank; /* the directory that it gets, from spare.h; empty: one is made */
    int listen, args, told, tell;
    struct err spawn_err;
    struct sandbox_limits limits;
    uint64_t disk_used, disk_free;
    bool filled;
};

struct box {
    struct list node; /* in sandboxes.boxes */
    struct sandboxes *s;
    struct id id;
    char unit[ID_MAX + 40];
    struct sm sm;
    struct list calls;
    char *provision;  /* what the sandbox is made with, as the latest call gave it; may be NULL */
    bool provisioned; /* it is in place */
    struct provision *provisioning;
    struct buf note; /* for the model, before the next result */
    struct box_files files;
    struct layer layer; /* what the environment adds to its root */
    struct build_waiter layer_wait;
    char *environment; /* the config as JSON, as the first call gave it */
    struct frame_conn *conn;
    struct loop_timer timer, ticker;
    struct loop_post post;
    bool kicked, released;
    unsigned open; /* handles that have not closed, once released */
    /* the job that runs */
    struct loop_work work;
    void (*then)(struct box *);
    struct err job_err;
    bool working;
    /* the sandbox */
    struct sandbox_record record;
    struct start start;
    struct loop_child child; /* bubblewrap, when we started it */
    bool child_open, child_closing;
    bool left; /* it has done its part: the sandbox has no parent of ours */
    int info, errors;
    bool child_ended; /* before the worker had prepared everything */
    int child_status;
    struct sandbox_limits limits;
    bool looked; /* for a record, since this server began */
    bool found;
    bool adopted;     /* the hand was started by an earlier server */
    bool recorded;    /* its pid is in the record */
    unsigned redials; /* without an answer between them */
    char start_failed[BOX_TEXT_MAX / 2];
    const char *end_reason;
    bool destroying, wipe_wanted, wipe;
    bool parked; /* ended for lack of use: the box may go too */
    /* spare.h */
    bool spare, taken, spent; /* a warm one; given to a session just now; it has to go */
    bool provision_anew;      /* nothing was provisioned when it was started */
    bool adopt_tried;         /* in vain */
    char key[33];             /* of a warm one: what it was made like */
    struct box *adopting;     /* the warm one that this session gets */
    struct id adopt_name;     /* and its directory */
    /* copy.h */
    bool copy, copy_read_only;
    struct id copy_of;
    int copy_lock;
    struct box_net net;
    /* watching */
    bool busy;
    struct cgroup_counters seen, last;
    int64_t last_used_ms, last_ping_ms, last_pong_ms;
    struct watch *watch; /* the sample that is being taken */
    uint64_t disk_used, disk_start, disk_free;
    int64_t disk_due_ms; /* measured again from then on */
    bool disk_was_full;  /* when the calls began: how full the next look says */
    bool limit_sent;
};

struct box *box_find(struct sandboxes *s, struct str session_id);
void box_finish(struct box *b, struct box_call *c, struct str content, bool is_error,
                const char *reason);
void box_finish_lost(struct box *b, struct box_call *c, const char *reason);
/* Its last call has ended: what that left running has as long as a call. */
void box_unused(struct box *b);
/* A job of the box; its state does not change while it runs. */
void box_job(struct box *b, void (*work)(struct loop_work *), void (*then)(struct box *));
/* ---- for spare.h: a sandbox without a session ---- */
void box_spare(struct sandboxes *s, const struct id *name, const char *key, const char *environment,
               const struct layer *layer);
void box_spend(struct box *spare); /* ends it; nothing stays */
/* The spare is the session's from now on, with its calls; `from` goes. */
void box_take_over(struct box *spare, struct box *from);
/* The hand said hello. */
void box_up(struct box *b);
/* The hand is gone or must go; reason NULL: what the counters say. */
void box_lost(struct box *b, const char *reason);
/* The connection broke, the hand may live: asks again. */
void box_redial(struct box *b);
void box_start_timeout(struct loop_timer *t);

/* ---- start.c ---- */

/* The descriptors of a sandbox to come, and its launcher. */
void start_begin(struct box *b, struct start *st,
                 void (*exited)(struct loop_child *, int wait_status));
int start_prepare(struct box *b, struct start *st, struct err *err); /* worker */
void start_fini(struct start *st);
/* The hand's pid on the host, as bubblewrap reported it; 0 before it has. */
int64_t box_child_pid(const struct box *b);

/* ---- link.c ---- */

int box_dial(struct box *b, struct err *err) MUST_USE;
void box_send_waiting(struct box *b);
void box_send_op(struct box *b, const char *op, const char *id, const char *reason,
                 const char *message);

/* ---- watch.c ---- */

/* What the session's directories take, and what their file system has left. Worker. */
void disk_measure(const struct session_paths *p, uint64_t *used, uint64_t *free_bytes);

/* Calls began or ended: starts or stops the clock. */
void watch_update(struct box *b);
/* The reason why a call that failed may have failed, or NULL; adds a sentence to `text`. */
const char *watch_explain(struct box *b, struct buf *text);
void watch_orphan(struct box *b); /* the box goes while a sample is being taken */

#endif
