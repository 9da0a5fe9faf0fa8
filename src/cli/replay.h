/* replay: a session's log folded once more, beside a running server or without one: every model
 * request is built again from the events and compared with what was noted when it was sent.
 *
 * Main thread; one command. Reads one snapshot of the store and writes nothing. The fold is the
 * engine's own (core/turn.h): what differs here would have differed after a crash.
 */
#ifndef OSTLER_CLI_REPLAY_H
#define OSTLER_CLI_REPLAY_H

#include "cli/config.h"
#include "core/turn.h"
#include "store/store.h"

/* ---- the log ---- */

struct replay_log {
    struct arena arena;
    struct session_row row;
    struct event *events;
    size_t nevents;
    struct agent_row other; /* body absent: none was asked for */
};

enum replay_state {
    REPLAY_EQUAL,
    REPLAY_DIFFERS,
    REPLAY_NOT_RECORDED, /* sent by a version that took no digests, or never sent */
    REPLAY_NOT_BUILT,    /* it cannot be built: `why` */
};

/* One model request, as a span of the log. */
struct replay_request {
    int64_t number;           /* 1, 2, ... over all that were started */
    const struct event *from; /* the span's start */
    const struct event *to;   /* its end; NULL: the log ends before */
    bool is_error;            /* it was not answered */
    struct request_record record;
    struct end_record ended;
    struct model_request built; /* borrows the turn's memory during the call */
    int64_t bytes;              /* of system, tools and messages */
    enum replay_state state;
    const char *part;  /* REPLAY_DIFFERS: the first: "model", "system", "tools", "messages" */
    int64_t since_seq; /* the messages of all requests up to this event were equal */
    struct err why;
};

/* `version` 0: no other version of the agent is read. NOT_FOUND for a session or version that is
 * not there, else as store_look(). Call replay_close() also after a failure. */
int replay_open(struct replay_log *l, const char *data, struct str session, int64_t version,
                struct err *err) MUST_USE;
void replay_close(struct replay_log *l);
/* Folds the log and hands out each request at its place; `fn` returns 0 to go on, or what this
 * returns. CORRUPT or PARSE when an event cannot be folded, naming it. */
int replay_each(struct replay_log *l,
                int (*fn)(void *arg, struct replay_request *q, struct err *err), void *arg,
                struct err *err) MUST_USE;
/* The request as one JSON object. */
void replay_write_request(const struct model_request *r, struct buf *out);

/* ---- answers ---- */

/* What a model said, without its thinking: texts and calls in order. */
struct replay_item {
    struct str name;  /* of a tool; absent: this is a text */
    struct str value; /* the text, or the input as JSON */
};
struct replay_answer {
    struct replay_item *items;
    size_t n;
};

/* What the log has between a request's start and its end. */
int replay_recorded(const struct replay_log *l, const struct replay_request *q, struct arena *a,
                    struct replay_answer *out, struct err *err) MUST_USE;
int replay_said(const struct model_result *r, struct arena *a, struct replay_answer *out,
                struct err *err) MUST_USE;
/* Texts but for blanks, calls by name and by the values of their inputs. */
bool replay_same(const struct replay_answer *x, const struct replay_answer *y);

/* ---- another agent or model ---- */

struct replay_asker;

/* Opens the models as `ostler serve` does. `model` NULL: that of the agent. INVALID when no
 * provider takes the model. */
int replay_asker_open(const struct config *cfg, const struct replay_log *l, const char *model,
                      struct replay_asker **out, struct err *err) MUST_USE;
void replay_asker_close(struct replay_asker *k);
const char *replay_asker_model(const struct replay_asker *k);
/* Sends the recorded conversation to the other agent; blocks until it has answered. */
int replay_ask(struct replay_asker *k, const struct replay_request *q, struct arena *a,
               struct replay_answer *out, struct model_usage *used, struct err *err) MUST_USE;

#endif
