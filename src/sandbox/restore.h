/* restore: a session's directory that is gone comes back from the newest checkpoint. Internal to
 * sandbox/.
 *
 * Loop thread. One runs for a session at a time; whoever asks meanwhile gets its end. The files are
 * made in a directory of another name, `.restore-XXXXXX`, which then takes the session's name: a
 * server that dies on the way leaves only that, and the next one's sweep removes it.
 */
#ifndef OSTLER_SANDBOX_RESTORE_H
#define OSTLER_SANDBOX_RESTORE_H

#include "sandbox/impl.h"

/* There is a store that has checkpoints. */
bool restore_possible(const struct sandboxes *s);
/* `had_sandbox`: the session had a sandbox; where it has no checkpoint then, its files are lost,
 * and a note says so. `done` once, never inside this call, with an error when there is a checkpoint
 * but no room, say: it can be tried again. Else there is a directory, or there was nothing to
 * restore.
 */
void restore_start(struct sandboxes *s, struct str session_id, bool had_sandbox,
                   void (*done)(void *arg, const struct err *err), void *arg);

/* ---- worker ---- */

/* What the model is told before the next result: which note there is; 0: none. */
int64_t restore_note(const struct session_paths *p);
/* Replaces what is in `out`; with nothing where there is none. */
void restore_read_note(const struct session_paths *p, struct buf *out);
void restore_forget_note(const struct session_paths *p);
/* What was kept last cannot be read: a snapshot is taken as if there were none before it, so that
 * it refers to nothing that is damaged. Until one was kept. */
bool restore_from_earlier(const struct session_paths *p);
void restore_forget_earlier(const struct session_paths *p);
/* What servers that died left in the sandboxes' directory. */
void restore_sweep(const struct host *h);

#endif
