/* copy: the files of a session as they are now, in a sandbox of its own under another id, for
 * whoever judges them. Internal to sandbox/.
 *
 * Loop thread; the copying itself runs on the worker pool. While it does, no call of the session is
 * given to its hand. What its processes in the background write meanwhile may be in the copy or
 * not, file by file. A copy has users, directories, processes and limits of its own, no network
 * and nothing to be fetched; it is kept by no checkpoint and listed nowhere. Its directory is
 * locked while its server lives: what a server that was killed left, a later one's sweep removes.
 */
#ifndef OSTLER_SANDBOX_COPY_H
#define OSTLER_SANDBOX_COPY_H

#include "sandbox/impl.h"

#include <stdatomic.h>

struct copying;

/* As sandbox_port.copy. */
void copy_start(struct sandboxes *s, struct str session_id, struct str copy_id, bool read_only,
                void (*done)(void *arg, const struct err *err), void *arg);
/* Calls wait: the box's files are being copied, or it is the copy that is being made. */
bool copy_busy(const struct box *b);
/* The copy that is being made is not wanted any more. */
void copy_cancel(struct box *b);
/* The box goes. */
void copy_forget(struct box *b);
void copies_close(struct sandboxes *s);

/* ---- worker ---- */

/* Somebody else's copy, who lives. */
bool copy_is_locked(int dir, const char *name);
/* What is read-only in a sandbox of the session is so in its copy, from the same place. */
void copy_paths(const struct host *h, const struct id *of, struct session_paths *p);

/* ---- copy_tree.c ---- */

struct copy_how {
    uid_t uid;                    /* who gets it; 0: we */
    int64_t max_files, max_bytes; /* bytes: what is on the disk */
    atomic_bool *stop;
    int64_t files, bytes; /* out: so far */
};

/* What is in the directory `from`, which a sandbox wrote and may be writing, into the empty
 * directory `to`, which is ours: files, directories and symbolic links with their modes and times.
 * No link is followed; hard links become files of their own; sockets, pipes and devices are left
 * out, as is what vanishes meanwhile. LIMIT beyond the bounds; CANCELED; NO_SPACE, IO. */
int copy_tree(const char *from, const char *to, struct copy_how *how, struct err *err) MUST_USE;

#endif
