/* git: one repository of a session: fetched into a mirror that the sessions of a workspace share,
 * and checked out from there into the session's workspace. Internal to sandbox/.
 *
 * Loop thread. Two programs run one after the other, each in a sandbox of its own: the fetch, which
 * has the network and the token and sees only the mirror; the checkout, which has neither and sees
 * the workspace. The agent's sandbox sees what the second one left.
 */
#ifndef OSTLER_SANDBOX_GIT_H
#define OSTLER_SANDBOX_GIT_H

#include "sandbox/impl.h"

struct git_repository {
    const char *id, *workspace, *url, *path;
    const char *branch, *commit; /* "": none */
    struct str secret;           /* sealed token; absent: none */
    int64_t updated_us;
};

struct git_result {
    const char *error; /* of the session.error, or NULL: it is there */
    char message[320];
};

struct git_clone;

/* `repository` must outlive it. `done` once, never inside this call; it is gone then. */
struct git_clone *git_clone_start(struct sandboxes *s, const char *session_id,
                                  const struct git_repository *repository,
                                  void (*done)(void *arg, const struct git_result *result),
                                  void *arg);
void git_clone_cancel(struct git_clone *g); /* `done` comes soon */

/* ---- worker: what is known of a session's repositories, by files in its directory ---- */

/* Cloned; or, unless `again`, tried in vain with the same token. */
bool git_is_settled(const struct session_paths *p, const struct git_repository *r, bool again);
/* `dir`, which is to be a session's, has it: it came with its files. */
void git_settle(const char *dir, const char *id);

#endif
