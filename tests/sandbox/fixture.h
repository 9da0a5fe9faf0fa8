/* fixture: a sandbox module over a temporary data directory, driven synchronously; for tests. One
 * thread; the helpers run the loop until what they wait for has come.
 */
#ifndef OSTLER_TESTS_SANDBOX_FIXTURE_H
#define OSTLER_TESTS_SANDBOX_FIXTURE_H

#include "base/buf.h"
#include "sandbox/sandbox.h"
#include "store/store.h"

struct fixture {
    struct loop *loop;
    struct sandboxes *s;
    struct sandbox_port port;
    struct sandbox_config cfg;
    struct loop_timer alive;
    struct store *store; /* NULL: there is none */
    char dir[64], data[80], run[80], stored[80];
    int next;
    bool waiting;
    const char *environment; /* of every call; NULL: one that says nothing */
};

struct answer {
    bool done, is_error;
    const char *reason;
    struct buf text;
    struct fixture *f;
};

extern const char *fixture_hand;             /* path of the hand */
extern bool fixture_unsafe;                  /* the next fixture_open() asks for no sandbox */
extern bool fixture_stored;                  /* ... has a store */
extern int64_t fixture_warm;                 /* ... keeps so many ready */
extern const struct oci_config *fixture_oci; /* the next one's driver; NULL: bubblewrap */

void fixture_open(struct fixture *f, const struct sandbox_limits *limits);
/* The same on a directory that is there already. */
void fixture_open_at(struct fixture *f, const char *dir);
void fixture_close(struct fixture *f); /* removes the directory */
/* The server ends and another one begins; hands stay. */
void fixture_restart(struct fixture *f);
/* "" when sandboxes work here; else why not. */
const char *fixture_lacks(struct fixture *f);

/* For a test that cannot do without. */
#define FIXTURE_NEEDED(f)                                                                          \
    do {                                                                                           \
        if (fixture_lacks(f)[0])                                                                   \
            skip();                                                                                \
    } while (0)
/* fixture_open() with a store; says when sandboxes do not work here. */
void fixture_open_stored(struct fixture *f);

/* One call to its end. `a` is initialised; free its text with answer_fini(). */
void call_tool(struct fixture *f, struct answer *a, const char *session, const char *tool,
               const char *input);
void bash(struct fixture *f, struct answer *a, const char *session, const char *command);
/* The command's output is exactly, or with a leading '*' has in it, `want`; blanks around it cut.
 */
void bash_says(struct fixture *f, const char *session, const char *command, const char *want);
/* Starts one, with the id given; wait with answer_wait(). */
struct call_flags {
    bool again, existed, had; /* !first_dispatch, sandbox_existed, had_sandbox */
};
void call_start(struct fixture *f, struct answer *a, const char *session, const char *id,
                const char *tool, const char *input, struct call_flags flags);
void answer_wait(struct answer *a);
/* Nothing of ours is waited for: the loop runs until an answer has come, at most `ms`. */
bool answer_within(struct answer *a, int64_t ms);
void answer_fini(struct answer *a);
/* Runs the loop until `path` exists. */
void wait_for_file(struct fixture *f, const char *path);
/* One turn of the loop after at most `ms`. */
void turn(struct fixture *f, int64_t ms);

/* A shell command on the host, in the fixture's directory; its exit code. */
int on_host(struct fixture *f, const char *command);

/* A job of the store, to its end; its error. */
int on_store(struct fixture *f, bool write,
             int (*fn)(struct store_tx *tx, struct store_job *job, struct err *err), void *arg);
void *on_store_arg(struct store_job *job);

/* Reads a part of a workspace; the result's bytes. */
int read_workspace(struct fixture *f, const char *session, enum workspace_what what,
                   const char *path, struct buf *out, struct err *err);
int import_workspace(struct fixture *f, const char *session, int fd, struct err *err);

#endif
