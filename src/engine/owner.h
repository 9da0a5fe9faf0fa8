/* owner: the file that a server process keeps locked while it lives: DATA/owners/ID.
 *
 * Any thread; blocking, but on small local files. The lock is an open-file-description lock: the
 * kernel drops it when the process ends in any way, so a dead owner is known at once. A file is
 * locked before it gets its name and ids are never used again: one without a lock is dead for ever.
 * Beside it lie the process's sockets, ID.peer and ID.http.
 */
#ifndef OSTLER_ENGINE_OWNER_H
#define OSTLER_ENGINE_OWNER_H

#include "base/err.h"
#include "base/id.h"

enum { OWNER_PATH_MAX = 4096, OWNER_TEXT_MAX = 256 };

struct owner {
    int fd; /* -1: none */
    struct id id;
    char path[OWNER_PATH_MAX];
};

struct owner_facts {
    int pid;
    char url[OWNER_TEXT_MAX];   /* empty: not listening yet, or no longer */
    char model[OWNER_TEXT_MAX]; /* its default model; empty: not told */
};

/* Makes DATA/owners and a locked file in it; removes what dead ones left. */
int owner_open(struct owner *o, const char *data, struct err *err) MUST_USE;
/* What owner_facts will tell. */
int owner_say(const struct owner *o, const char *url, const char *model, struct err *err) MUST_USE;
void owner_close(struct owner *o); /* removes the file; fine for one that failed to open */

/* False: it is dead. Else *ret_fd is a descriptor to watch its lock by, -1 when it cannot be opened
 * just now. */
bool owner_watch(const char *data, const char *id, int *ret_fd);
bool owner_locked(int fd);
void owner_facts(int fd, struct owner_facts *out);
/* Calls `fn` for each that lives; its descriptor is closed afterwards. Removes what dead ones left.
 */
void owner_each(const char *data, void (*fn)(void *arg, const char *id, int fd), void *arg);
/* Removes the file and the sockets of one that is dead. */
void owner_forget(const char *data, const char *id);

#endif
