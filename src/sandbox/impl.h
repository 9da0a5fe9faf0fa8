/* impl: what the parts of the sandbox module share; internal to sandbox/.
 *
 * Everything here belongs to the loop thread, except struct host, which is written once by the
 * probe and then read by jobs on the worker pool, and the functions marked "worker".
 */
#ifndef OSTLER_SANDBOX_IMPL_H
#define OSTLER_SANDBOX_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "base/sm.h"
#include "egress/address.h"
#include "io/socket.h"
#include "sandbox/cgroup.h"
#include "sandbox/net.h"
#include "sandbox/oci.h"
#include "sandbox/recipe.h"
#include "sandbox/sandbox.h"
#include "store/blob.h"

#include <limits.h>

enum {
    BOX_TICK_MS = 250,
    BOX_START_MS = 15 * 1000, /* from the spawn to the hand's hello */
    BOX_GRACE_MS = 5 * 1000,  /* how much later than a call's own timeout the server steps in */
    BOX_PING_MS = 5 * 1000,
    BOX_PONG_MS = 15 * 1000, /* a hand that is silent for so long is ended */
    BOX_TEXT_MAX = 1024,
    BOX_SOCKET_MAX = 104, /* sun_path has 108 */
    UID_BASE = 700000,
    UID_COUNT = 1 << 20,
};

/* What is fixed once the probe has run. */
struct host {
    char dir[PATH_MAX - 512], run_dir[BOX_SOCKET_MAX], hand[PATH_MAX], etc[PATH_MAX - 256];
    struct sandbox_limits limits; /* filled in */
    int64_t grace_ms;
    bool root;                 /* sandboxes are users of their own */
    bool unsafe;               /* and there are none */
    bool no_cgroups;           /* as sandbox_config says */
    bool network;              /* the hand listens for the egress proxy */
    char data[PATH_MAX - 512]; /* "": nothing is provisioned */
    struct blobs blobs;
    struct ip_range *allow; /* what repositories may be fetched from beside public addresses */
    size_t nallow;
    int64_t mirrors_mb; /* of fetched repositories that are kept */
    struct oci oci;
    struct cgroups cg;
    int seccomp; /* memfd */
    char boot_id[64];
};

struct sandboxes {
    struct loop *loop;
    struct host host;
    int64_t opened_us; /* wall clock */
    struct sandbox_tier tier;
    struct sandboxes_stats stats; /* `up` is counted when asked for */
    struct net net;
    bool probed;
    struct list on_probed; /* struct probed_cb */
    struct list boxes;
    struct map by_session; /* id -> struct box */
    struct list files;     /* struct files: queues of workspace jobs */
    struct list harvests;  /* struct harvest */
    struct list restores;  /* struct restore */
    struct list copies;    /* struct copying: that are being made */
    struct sandbox_checkpoints keep;
    struct store_port store;
    void (*on_notice)(void *arg, struct str session_id, const struct sandbox_notice *notice);
    void *notice_arg;
    struct probe *probe; /* while it runs */
    struct builds *builds;
    struct spares *spares;
    unsigned pending; /* jobs and children that will still call back */
    void (*closed)(void *arg);
    void *closed_arg;
    bool closing;
};

void sandboxes_job_began(struct sandboxes *s);
void sandboxes_job_ended(struct sandboxes *s); /* may complete the close */

struct layer;
struct builds;

/* ---- host.c: directories and the record of a sandbox ---- */

/* The directories of one session. */
struct session_paths {
    char dir[PATH_MAX - 256];
    char workspace[PATH_MAX], tmp[PATH_MAX], home[PATH_MAX], outputs[PATH_MAX];
    char uploads[PATH_MAX], skills[PATH_MAX]; /* the server's, mounted read-only */
    char base[PATH_MAX];                      /* bare git repository with the imported tree */
    char meta[PATH_MAX];
    char root[PATH_MAX], bundle[PATH_MAX]; /* of the OCI driver (oci.h) */
    /* Name of its cgroup and socket: two servers may hold copies of one data directory. */
    char unit[ID_MAX + 40];
    uid_t uid; /* 0: ours; the first of its users where the driver is OCI */
    bool oci;
};
void session_paths(const struct host *h, const char *session_id, struct session_paths *out);
/* Of this session, or of what was made before there was one, in this data directory. */
bool unit_is_ours(const struct session_paths *p, const char *unit);
/* Makes what is missing, with the right owner. Worker. */
int session_prepare(const struct session_paths *p, struct err *err) MUST_USE;

/* sandbox.json: how the next server finds a hand again. */
struct sandbox_record {
    char boot_id[64];
    char unit[ID_MAX + 40]; /* of another directory: this is a copy, and the hand is not ours */
    char socket[BOX_SOCKET_MAX];
    int64_t pid, start_time; /* of the hand, on the host; 0: not known */
    int64_t generation;      /* sandboxes this session has had */
    char layer[65];          /* the content that it has mounted, or empty */
    int64_t inode;           /* of the directory that it has as /workspace; 0: not known */
};
/* False when there is none, or it cannot be read. Worker. */
bool record_read(const char *path, struct sandbox_record *out);
int record_write(const char *path, const struct sandbox_record *r, struct err *err);
/* The record is gone, with its directory perhaps, but not the socket: there may be a hand, of which
 * no more is known. Worker. */
bool record_of_lost(const struct host *h, const struct session_paths *p,
                    struct sandbox_record *out);
/* So that it is found by the session's name where its unit has another one. NULL: there is none any
 * more. Worker. */
void record_hint(const struct host *h, const struct session_paths *p, const char *unit);
/* Has the hand at `socket` end itself, and waits for it: for one whose pid nobody knows. Worker. */
void hand_shutdown(const char *socket);
/* Field 22 of /proc/PID/stat; 0 when there is no such process. */
int64_t process_start_time(int64_t pid);
/* SIGKILL, if the pid still is that process. */
void process_kill(int64_t pid, int64_t start_time);
/* Chooses and makes the runtime directory, the synthetic /etc, reads the boot id. Worker. */
int host_prepare(struct host *h, struct err *err) MUST_USE;
/* The filter with a file position of its own: bubblewrap reads it from where it is. */
int host_seccomp(const struct host *h);
/* A temporary file without a name below the data directory. Worker. */
int host_tmpfile(const struct host *h, struct err *err) MUST_USE;

/* ---- start.c: what is started, by the probe as well ---- */

/* Descriptors of the launcher: none, none, errors, socket, arguments, filter, info, and where it
 * reads its own arguments. */
enum {
    START_FD_ERRORS = 2,
    START_FD_LISTEN,
    START_FD_ARGS,
    START_FD_SECCOMP,
    START_FD_INFO,
    START_FD_TOLD,
    START_FDS
};

struct start_how {
    const struct session_paths *paths;
    const struct sandbox_limits *limits;
    const char *const *variables; /* as in struct recipe_how */
    const struct layer *layer;    /* the environment's, or NULL */
    int args_into;                /* as in struct recipe_how */
    bool read_only;               /* but for /tmp */
    bool offline;                 /* a copy (copy.h): no way out, whatever the operator allows */
    bool selftest;                /* the hand tells what holds instead of serving; no info */
};
/* One recipe for sessions and for the probe, so that what keeps one from starting shows in the
 * other. Worker. */
int start_recipe(const struct host *h, const struct start_how *how, struct recipe *out,
                 struct err *err) MUST_USE;
/* A socket that listens at `path`, and the limits of a sandbox's cgroup. Worker. */
int start_listen(const char *path, int fd, struct err *err) MUST_USE;
int start_limit(const struct host *h, const char *unit, const struct sandbox_limits *limits,
                struct err *err) MUST_USE;

/* ---- remedy.c ---- */

struct host_facts {
    bool root, container;
    int64_t userns_clone, max_userns, apparmor_userns; /* sysctls; -1: there is none */
};
/* Worker. */
void host_facts(struct host_facts *f);
/* "; what to do" about what bubblewrap or the launcher said, or "". */
const char *host_remedy(struct str said, const struct host_facts *f);

/* ---- probe.c ---- */

void probe_start(struct sandboxes *s);
void probe_cancel(struct sandboxes *s);
/* Like sandboxes_on_probed(), but calls back while the module is closing, too. */
void probe_wait(struct sandboxes *s, void (*fn)(void *arg), void *arg);

/* ---- settings.c: an environment's config ---- */

enum { SETTINGS_VARIABLES = 256 };

struct settings {
    struct arena arena;
    struct sandbox_limits limits;
    const char *variables[SETTINGS_VARIABLES * 2 + 1];
};
/* Lenient: what cannot be used is left at its default (the API checked it when it was saved). */
void settings_parse(struct settings *out, const struct sandbox_limits *defaults, struct str json);
void settings_fini(struct settings *s);

/* ---- box.c: one session's sandbox ---- */

struct box;

struct box *box_get(struct sandboxes *s, struct str session_id);
void box_run(struct box *b, const struct tool_call *call,
             void (*done)(void *arg, const struct tool_outcome *outcome), void *arg);
void box_ack(struct box *b, struct str tool_use_id);
void box_cancel(struct box *b, struct str tool_use_id);
void box_checkpoint(struct sandboxes *s, struct str session_id, int64_t seq, bool turn_end,
                    void (*done)(void *arg), void *arg); /* as checkpoint_ask() */
void box_idle(struct box *b);
void box_destroy(struct box *b, bool wipe);
void box_kick(struct box *b);  /* ticks soon, not now */
void box_close(struct box *b); /* the server ends, the hand stays */
void boxes_probed(struct sandboxes *s);

/* ---- files.c, tar.c, paths.c: the workspace as files ---- */

/* Checks a tar stream and writes it again as a plain one, with nothing in it but files, directories
 * and links below its root. Worker. */
int tar_sanitize(int in, int out, uint64_t max_bytes, struct err *err) MUST_USE;
/* One directory as JSON, or one file's bytes, into `out`. No symbolic link leads out. Worker. */
int path_list(const char *root, struct str path, int out, struct err *err) MUST_USE;
int path_read(const char *root, struct str path, int out, struct err *err) MUST_USE;
/* "/workspace/a/b", "a/b/", "" as "a/b" and "."; links and ".." stay. */
int path_relative(struct str path, char out[PATH_MAX], struct err *err) MUST_USE;

void files_close(struct sandboxes *s);

/* ---- past.c: files as they were, for files.c ---- */

struct past {
    char *manifest, *from, *note; /* as in struct workspace_moment; NULL: none */
    bool when_gone, used;
    char dir[PATH_MAX - 64]; /* of past_restore(); "": none */
    int lock;
};
void past_init(struct past *p, const struct workspace_moment *m); /* NULL: the present */
void past_fini(struct past *p);
/* The answer comes from the snapshot (`used`). Worker. */
bool past_holds(struct past *p, const struct session_paths *paths);
/* Everything but a patch. Worker. */
int past_answer(const struct past *p, const struct host *h, enum workspace_what what,
                struct str path, int out, int64_t max_bytes, struct err *err) MUST_USE;
/* Makes `dir` with "scratch", "at" (when used) and "from" (when given), the latter two like a
 * session's directory. Worker. */
int past_restore(struct past *p, const struct host *h, uid_t uid, struct err *err) MUST_USE;
void past_path(const struct past *p, const char *name, char out[PATH_MAX]);
void past_clear(struct past *p); /* worker */
/* What servers that were killed left behind. Worker. */
void past_sweep(const struct host *h);

#endif
