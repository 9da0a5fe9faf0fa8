/* ports: everything impure that the engine needs, as vtables: store, model, sandbox, clock, random,
 * and the other server processes.
 *
 * Wired together in cli/serve; the simulator brings its own. All calls and call-backs are on the
 * loop thread. A start never calls back synchronously.
 */
#ifndef OSTLER_CORE_PORTS_H
#define OSTLER_CORE_PORTS_H

#include "base/err.h"
#include "base/id.h"
#include "base/str.h"

/* ---- store: functions run inside a transaction, on the store's threads ---- */

struct store_tx; /* store/store.h */

struct store_job {
    struct store_job *next;
    /* Runs on a store thread, inside a transaction; touches only `tx` and the job's own memory.
     * A write that returns an error leaves no trace. May run again after a lost connection, so it
     * must start from its inputs. */
    int (*fn)(struct store_tx *tx, struct store_job *job, struct err *err);
    /* On the loop thread, once: after the commit is durable (write) or the snapshot is closed
     * (read). err->code 0 on success. */
    void (*done)(struct store_job *job, const struct err *err);
    struct err err;
};

struct store_port {
    void *self;
    void (*read)(void *self, struct store_job *job);
    void (*write)(void *self, struct store_job *job);
};

/* ---- clock and random ---- */

struct port_timer;

struct clock_port {
    void *self;
    int64_t (*unix_us)(void *self);
    /* One shot; `fn` once unless cancelled; the timer is gone after either. */
    struct port_timer *(*start)(void *self, int64_t delay_ms, void (*fn)(void *arg), void *arg);
    void (*cancel)(void *self, struct port_timer *t);
};

struct rand_port {
    void *self;
    void (*fill)(void *self, void *p, size_t n);
};

/* ---- model ---- */

struct model_usage {
    int64_t input_tokens, output_tokens;
    int64_t cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens;
    int64_t cost_microusd;
    bool unpriced;  /* no price is known for the model: cost is 0 */
    bool estimated; /* the provider told no counts: these are guesses from the lengths */
};

enum model_block_type {
    MODEL_TEXT,
    MODEL_THINKING, /* thinking or redacted_thinking, kept verbatim in `raw` */
    MODEL_TOOL_USE,
};

struct model_block {
    enum model_block_type type;
    struct str text;  /* MODEL_TEXT: decoded */
    struct str raw;   /* MODEL_THINKING: the block as JSON, to be sent back unchanged */
    struct str name;  /* MODEL_TOOL_USE */
    struct str input; /* MODEL_TOOL_USE: JSON text exactly as received; "{}" when there was none */
    bool input_malformed; /* input is not a JSON object: the call fails with what was received */
};

enum model_stop {
    MODEL_STOP_END, /* end_turn, stop_sequence */
    MODEL_STOP_TOOL_USE,
    MODEL_STOP_MAX_TOKENS,
    MODEL_STOP_PAUSE, /* the provider wants the same conversation sent again */
    MODEL_STOP_REFUSAL,
    MODEL_STOP_CONTEXT, /* the context window is full */
};

struct model_result {
    const struct model_block *blocks;
    size_t nblocks;
    enum model_stop stop;
    struct str refusal_category, refusal_explanation; /* absent: null */
    struct model_usage usage;
};

enum model_error_kind {
    MODEL_ERR_OVERLOADED,   /* 529, 503: retried */
    MODEL_ERR_RATE_LIMITED, /* 429: retried, honours retry_after_ms */
    MODEL_ERR_FAILED,       /* 5xx, connection, time-out, cut or garbled stream: retried */
    MODEL_ERR_REQUEST,      /* 4xx: the same request cannot succeed: not retried */
    MODEL_ERR_AUTH,         /* 401, 403, no key configured: not retried */
    MODEL_ERR_BILLING,      /* 402, credit exhausted: not retried */
    MODEL_ERR_CONTEXT,      /* prompt too long: not retried as it is */
};

struct model_failure {
    enum model_error_kind kind;
    int http_status;          /* 0: none was received */
    int64_t retry_after_ms;   /* 0: not said */
    bool timed_out;           /* with MODEL_ERR_FAILED: silence, not a broken connection */
    char message[256];        /* for people; never holds a secret */
    struct model_usage usage; /* what was spent before it failed */
};

/* What a request is for. Stored in the ledger: append only. */
enum model_purpose { MODEL_FOR_TURN, MODEL_FOR_COMPACTION, MODEL_FOR_JUDGE, MODEL_FOR_GRADER };

struct model_request {
    struct str model;    /* model id as the agent names it */
    struct str effort;   /* "low" ... "max"; absent: the model's default */
    struct str speed;    /* "standard" or "fast" */
    struct str system;   /* JSON array of text blocks, or absent */
    struct str tools;    /* JSON array of {name, description, input_schema}, or absent */
    struct str messages; /* JSON array in the form of the Messages API */
    int64_t max_tokens;  /* 0: the model's maximum */
    struct str session_id;
    uint64_t request_number; /* 1, 2, ... within the session: for the scripted model */
    enum model_purpose purpose;
};

/* What is known of a model before it is asked. Prices are micro-dollars per million tokens, the
 * highest that a request can cost where a model has several price lists. */
struct model_facts {
    int64_t context_tokens;    /* prompt and answer together; 0: unknown */
    int64_t max_output_tokens; /* of one answer; 0: unknown */
    int64_t input_price;       /* of a prompt's token, written to a cache or not: the dearest */
    int64_t output_price;
    bool priced;          /* false: it has no list price, and no budget can be held */
    bool system_messages; /* takes messages of the role "system" inside a conversation */
    bool counts_tokens;   /* the provider counts a request's tokens before it is sent */
};

struct model_call; /* owned by the model layer; gone after done, failed or cancel */

/* Views are valid during the call-back, except in `done`, where they are valid until it returns. */
struct model_callbacks {
    void (*block_start)(void *arg, size_t index, enum model_block_type type);
    void (*text_delta)(void *arg, size_t index, struct str text);
    void (*done)(void *arg, const struct model_result *result);
    void (*failed)(void *arg, const struct model_failure *failure);
};

struct model_port {
    void *self;
    /* Everything in `req` must stay valid until done, failed or cancel. Never NULL. */
    struct model_call *(*start)(void *self, const struct model_request *req,
                                const struct model_callbacks *cb, void *arg);
    void (*cancel)(void *self, struct model_call *call); /* no further call-back */
    /* What a call that is about to be cancelled has used so far, as well as that is known: the
     * provider's counts where they came already, else guesses. NULL in tests: nothing. */
    void (*partial)(void *self, struct model_call *call, struct model_usage *out);
    /* All zero for a model that no table names. NULL in tests: nothing is known of any. Reads only
     * what does not change: any thread. */
    struct model_facts (*facts)(void *self, struct str model, struct str speed);
    /* Asks the provider how many tokens the request's prompt has; once: `tokens` -1 when it cannot
     * say. `req` as for start; ends by cancel as well. NULL in tests: nobody counts. */
    struct model_call *(*count)(void *self, const struct model_request *req,
                                void (*done)(void *arg, int64_t tokens), void *arg);
};

/* ---- sandbox ---- */

struct tool_call {
    struct str session_id;
    struct str tool_use_id; /* the idempotency key */
    struct str name;        /* bash, read, write, edit, glob, grep */
    struct str input;       /* JSON object, raw */
    struct str environment; /* the environment's config as JSON */
    struct str provision;   /* what the sandbox is made with, as JSON, or absent: nothing more */
    bool first_dispatch;  /* false: it may have been dispatched before a crash: ask, do not rerun */
    bool sandbox_existed; /* the log says that the session had a sandbox when this was dispatched */
    bool had_sandbox;     /* ... and when this server took the session up: it should have files */
};

struct tool_outcome {
    struct str content; /* text; may be empty */
    bool is_error;
    const char *failure_reason; /* out_of_memory, pids, timeout, disk, sandbox_lost, ...; or NULL */
};

/* Trouble with a session's sandbox, told to its clients: what it lacks, or that it was lost. */
struct sandbox_notice {
    const char *type;          /* of the error: repository_clone_error, ... */
    struct str message;        /* for people; never holds a secret */
    struct str repository_url; /* absent: none */
    const char *retry;         /* retrying (also NULL), exhausted */
};

struct sandbox_port {
    void *self;
    /* Provisions the session's sandbox if needed, runs the call there and reports once. With
     * first_dispatch false the hand is asked for the result by tool_use_id; a hand that never heard
     * of it runs it; if the hand is gone the outcome is unknown and said so (is_error,
     * failure_reason sandbox_lost). `input` etc. are copied. */
    void (*run)(void *self, const struct tool_call *call,
                void (*done)(void *arg, const struct tool_outcome *outcome), void *arg);
    /* The result is durable: the hand may forget it. */
    void (*ack)(void *self, struct str session_id, struct str tool_use_id);
    /* Ends a running call at once; its `done` still comes (is_error). */
    void (*cancel)(void *self, struct str session_id, struct str tool_use_id);
    /* The files of the session are as of this event of its log, which is durable: they are kept so
     * before the next call changes them. `turn_end`: nothing of a turn is under way. May be NULL.
     */
    void (*checkpoint)(void *self, struct str session_id, int64_t seq, bool turn_end);
    /* The files of a session as they are now, in a sandbox of its own under another id, which has
     * no network; `read_only`: but for /tmp nothing in it can be written. Calls for the copy may
     * follow once `done` was called; destroy() with `wipe` ends it. May be NULL. */
    void (*copy)(void *self, struct str session_id, struct str copy_id, bool read_only,
                 void (*done)(void *arg, const struct err *err), void *arg);
    /* No turn is running: the sandbox may be parked. */
    void (*idle)(void *self, struct str session_id);
    /* The session is archived or deleted: ends the hand; with `wipe` removes its files too. */
    void (*destroy)(void *self, struct str session_id, bool wipe);
};

/* ---- the tools that run on the server itself ---- */

struct web_call {
    struct str tool_use_id;
    struct str name;   /* web_fetch, web_search */
    struct str input;  /* JSON object, raw */
    struct str config; /* the tool's own entry in the toolset's configs, or absent */
    /* web_fetch: whether the agent's url_sources let it fetch this URL, given in the canonical
     * form. To be asked before `run` returns only. */
    bool (*url_known)(void *arg, struct str url, struct str host);
    void *arg;
};

/* All zero: there are no such tools. They change nothing anywhere, so a call that was under way
 * when the server died is simply run again. */
struct web_port {
    void *self;
    void (*run)(void *self, const struct web_call *call,
                void (*done)(void *arg, const struct tool_outcome *outcome), void *arg);
    /* Ends a running call soon; its `done` still comes (is_error). Unknown ids are ignored. */
    void (*cancel)(void *self, struct str tool_use_id);
    /* `found`, as it stands in a text, is this URL, which is canonical. */
    bool (*same_url)(void *self, struct str url, struct str found);
};

/* ---- other server processes on the same database ---- */

/* A session belongs to the process that took it last (session_row.owner) for as long as that one
 * lives; then whoever needs it takes it. */
enum peer_news_kind {
    PEER_WAKE,      /* to its owner: the session has something in its inbox */
    PEER_COMMITTED, /* to the others: the session's log has grown up to `seq` */
    PEER_DELETED,   /* to the others: this was its last event, which the store does not keep */
};

struct peer_news {
    enum peer_news_kind kind;
    struct str session_id;
    int64_t seq;
    struct str event_id, event_body; /* PEER_DELETED */
};

/* All zero (me is empty): there is one process only; sessions are nobody's, nothing is told. */
struct peer_port {
    void *self;
    struct id me;
    size_t (*others)(void *self); /* how many there are now */
    /* Once it is false it stays so: an id is never used again. True for `me`. */
    bool (*alive)(void *self, struct str owner);
    /* To one, or with an absent owner to all others. Copied; may be lost with the connection, after
     * which both sides look at the store (engine_peers_changed). */
    void (*tell)(void *self, struct str owner, const struct peer_news *news);
};

#endif
