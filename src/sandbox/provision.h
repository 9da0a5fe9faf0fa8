/* provision: what a session's sandbox is given before its first call, and again when that changed:
 * files below /mnt/session/uploads, skills below /workspace/skills, repositories in /workspace.
 * Internal to sandbox/.
 *
 * Loop thread; blocking steps run on the worker pool. What cannot be had is left out and told by a
 * notice or the log: the session goes on without it.
 */
#ifndef OSTLER_SANDBOX_PROVISION_H
#define OSTLER_SANDBOX_PROVISION_H

#include "base/buf.h"
#include "json/json.h"
#include "sandbox/impl.h"

struct provision;

/* `json` is session_row.provision. `fresh`: no hand runs, everything may be replaced; else only
 * files change, and repositories that were not tried yet come in. `done` once, never inside this
 * call. */
struct provision *provision_start(struct sandboxes *s, const char *session_id, struct str json,
                                  bool fresh, void (*done)(void *arg, struct str note), void *arg);
void provision_cancel(struct provision *p); /* `done` comes soon */

/* ---- worker ---- */

/* The note for the model was delivered. */
void provision_forget_note(const struct session_paths *p);
/* Makes the uploads of a session what `files` (an array of {blob, path}) says. */
int provision_uploads(const struct host *h, const struct session_paths *p, const struct json *files,
                      struct err *err) MUST_USE;
/* The same for skills ({name, blob}). */
int provision_skills(const struct host *h, const struct session_paths *p, const struct json *skills,
                     struct err *err) MUST_USE;

#endif
