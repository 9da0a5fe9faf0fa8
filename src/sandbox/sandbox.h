/* sandbox: provisions one sandbox per session, talks to the hand in it, keeps the workspace.
 *
 * Loop thread. A sandbox is started lazily by the first call that needs it, from a recipe; its hand
 * outlives this process and is found again by its socket in the runtime directory. Nothing runs
 * unsandboxed: where no tier works a call fails with the reason.
 */
#ifndef OSTLER_SANDBOX_SANDBOX_H
#define OSTLER_SANDBOX_SANDBOX_H

#include "base/arena.h"
#include "core/ports.h"
#include "egress/egress.h"
#include "io/loop.h"

struct sandboxes;

struct sandbox_limits {
    int64_t pids, memory_mb, cpus, file_mb, disk_mb; /* 0: the defaults of base/limits.h */
    /* A call may take so long, and what it leaves running ends so long after the last one; 0: the
     * tools' own time limits, and the hand's grace. */
    int64_t wall_seconds;
};

/* Which files of sessions are kept at the ends of turns, to be had back. */
struct sandbox_checkpoints {
    bool off;                  /* no more are taken; what there are come back */
    int64_t max_files, max_mb; /* of a session with more none are taken; 0: base/limits.h */
};

/* A decision of the egress proxy; views are valid during the call. */
struct sandbox_egress {
    const struct egress_decision *decision;
    struct str tool_use_id; /* the call that ran when it began; absent: none */
};

/* The OCI driver, as the operator configures it; strings must outlive the module. */
struct oci_config {
    const char *runtime; /* program; NULL: runc */
    const char *const *runtime_args;
    size_t nruntime_args;
    bool no_capabilities; /* root inside keeps none: nothing can be installed that has an owner */
};

struct sandbox_config {
    const char *dir; /* DATA/sandboxes: one directory a session */
    const char
        *run_dir; /* short path for sockets; NULL: chosen (XDG_RUNTIME_DIR, /run/ostler, /tmp) */
    const char *data; /* the data directory: contents of files, keys; NULL: nothing is provisioned,
                       * no outputs are listed */
    struct store_port
        store; /* where outputs are listed, and what else is kept; all zero: nowhere */
    /* CIDR: what repositories may be fetched from although it is not public. Until opened. */
    const char *const *allow_addresses;
    size_t nallow_addresses;
    int64_t mirrors_mb; /* of fetched repositories that are kept for the next session; 0: default */
    const char *hand;   /* path of the hand executable; NULL: beside this executable */
    struct sandbox_limits limits;
    struct sandbox_checkpoints checkpoints; /* with `data` and a store only */
    int64_t grace_ms;             /* a hand without a server ends itself after this; 0: default */
    const char *images;           /* unpacked roots must be below it; NULL: there are none */
    const struct oci_config *oci; /* the driver is OCI (oci.h); NULL: bubblewrap */
    int64_t warm;                 /* sandboxes kept ready for sessions to come */
    bool unsafe;     /* no sandbox at all: for development, and only when somebody says so */
    bool no_cgroups; /* as if none could be made: for tests of what is done without */
    /* The operator's settings of the egress proxy; must outlive the module. NULL: sandboxes have no
     * way out, whatever their environment says. */
    const struct egress_settings *egress;
    const char *egress_program; /* the ostler to run as the proxy; NULL: this executable */
    void (*on_egress)(void *arg, const struct sandbox_egress *e); /* may be NULL */
    void *egress_arg;
};

/* What works on this host, found out by trying; the strongest that does:
 *   bwrap-root       as root: each sandbox is a host user of its own
 *   bwrap-rootless   as an ordinary user: sandboxes are that user
 *   bwrap-container  as a container's root that can become nobody else: sandboxes are that root, in
 *                    a user namespace without a capability
 *   oci-NAME         as root, by the OCI runtime of that name: each sandbox has host users of its
 *                    own and a writable root
 *   none             calls fail with the reason
 *   none-unsafe      asked for: calls run as ordinary children of the server */
struct sandbox_tier {
    bool ok;
    const char *name;
    bool container;     /* the server itself is in one */
    const char *limits; /* "cgroup-v2", "cgroup-v1", "rlimits" */
    bool seccomp, landlock;
    int landlock_abi;
    char reason[512]; /* why it is not better; behind the first "; " the remedy */
};

/* Probes on the worker pool after opening; calls that come earlier wait for it. */
int sandboxes_open(struct loop *l, const struct sandbox_config *cfg, struct sandboxes **out,
                   struct err *err) MUST_USE;
/* Leaves hands alive; `closed` when nothing of ours is pending. */
void sandboxes_close(struct sandboxes *s, void (*closed)(void *arg), void *arg);
struct sandbox_port sandboxes_port(struct sandboxes *s);
struct sandboxes_stats {
    int64_t up;                                                 /* connected now */
    int64_t starts, start_failures;                             /* since opening, for sessions */
    int64_t checkpoints, checkpoint_failures, checkpoint_bytes; /* likewise; bytes: stored */
    int64_t restores, restore_failures;
    int64_t spares, adoptions; /* warm ones that are ready; such as became a session's */
    int64_t egress[EGRESS_REASON_COUNT], egress_troubles; /* likewise: decisions, and restarts */
};
struct sandboxes_stats sandboxes_stats(const struct sandboxes *s);
/* In `dir` while the last server that was opened on it ran without sandboxes. */
#define SANDBOX_UNSAFE_MARK ".unsafe"
/* NULL until the probe has ended. */
const struct sandbox_tier *sandboxes_tier(const struct sandboxes *s);
/* Its name for whoever asks about an environment; "probing" until the probe has ended. */
const char *sandboxes_tier_name(const struct sandboxes *s);
/* An environment was saved: what it needs is built if it is not there, also if it failed before. */
void sandboxes_build(struct sandboxes *s, struct str environment);
/* Whether environments may name OCI layouts: unpacked, they belong to the OCI driver. */
bool sandboxes_has_layouts(const struct sandboxes *s);
/* INVALID when the operator has no images, or not at that path. */
int sandboxes_check_image(const struct sandboxes *s, struct str path, struct err *err) MUST_USE;
/* What stands for the host in layer_content() of sandbox/layers.h. */
struct str sandboxes_base_id(const struct sandboxes *s);
void sandboxes_on_probed(struct sandboxes *s, void (*fn)(void *arg), void *arg);
/* What a sandbox lacks is told; once, before anything runs. */
void sandboxes_on_notice(struct sandboxes *s,
                         void (*fn)(void *arg, struct str session_id,
                                    const struct sandbox_notice *notice),
                         void *arg);
/* Ends hands whose session is not in the list, removes their leftovers: once after start. */
void sandboxes_sweep(struct sandboxes *s, const struct id *sessions, size_t n);

/* ---- the workspace of a session, as files (decisions: PUT/GET .../workspace) ----
 * Jobs on the worker pool; done on the loop. One import, export, listing or patch of a session runs
 * at a time; others wait. Paths never leave the workspace (no symlink is followed out of it). */
struct workspace_job;

/* Unpacks a tar stream (plain, gzip, zstd) written to a temporary file `fd` (taken) into the empty
 * or existing workspace and records it as the baseline for the patch. INVALID for absolute paths,
 * "..", devices, or more than the disk limit. */
void workspace_import(struct sandboxes *s, struct str session_id, int tar_fd,
                      void (*done)(void *arg, const struct err *err), void *arg);
/* kinds of reading */
enum workspace_what {
    WORKSPACE_TAR,     /* everything under /workspace as a tar */
    WORKSPACE_PATCH,   /* git patch against the imported baseline; empty when nothing changed */
    WORKSPACE_LIST,    /* JSON {"data":[{path,type,size_bytes,mode}]} of a directory */
    WORKSPACE_FILE,    /* one regular file's bytes */
    WORKSPACE_OUTPUTS, /* everything under /mnt/session/outputs as a tar */
};
/* The result is an unlinked temporary file, owned by the call-back; NOT_FOUND for a missing path.
 */
void workspace_read(struct sandboxes *s, struct str session_id, enum workspace_what what,
                    struct str path,
                    void (*done)(void *arg, int fd, uint64_t len, const struct err *err),
                    void *arg);

/* Files as they were. Copied, but for `used`, which is set before `done` is called. */
struct workspace_moment {
    struct str manifest; /* a snapshot (snapshot.h); absent: the present */
    bool when_gone;      /* only when the session's directory is not there any more */
    struct str from;     /* of a patch: the snapshot that it starts from, not the baseline */
    struct str note;     /* members of a listing of the past, in front of "data": "\"a\":1," */
    bool used;           /* out: the answer is from `manifest` */
};
void workspace_read_at(struct sandboxes *s, struct str session_id, enum workspace_what what,
                       struct workspace_moment *moment, struct str path,
                       void (*done)(void *arg, int fd, uint64_t len, const struct err *err),
                       void *arg);

#endif
