/* spare: what is got ready for sessions to come, so that a first tool call waits less; internal to
 * sandbox/.
 *
 * Loop thread. Two kinds, both in directories DATA/sandboxes/.spare-*, which a session takes over
 * by one rename; what mounts them follows. The user (where the server is root), the control group
 * and the socket keep their names, and the record says so.
 *
 *   blank   directories, a control group, a socket: always a few, they cost no process
 *   warm    a started sandbox with its hand and shell, in which nothing has run: as many as the
 *           operator wants, shared among the environments that were used last
 *
 * They are made one at a time while no session's sandbox is being started. What a server left that
 * was killed the next one removes.
 */
#ifndef OSTLER_SANDBOX_SPARE_H
#define OSTLER_SANDBOX_SPARE_H

#include "base/err.h"
#include "base/id.h"

#include <stddef.h>
#include <stdint.h>

struct box;
struct sandboxes;
struct session_paths;
struct spares;

#define SPARE_PREFIX ".spare-"

enum { SPARE_BLANKS = 4, SPARE_RECENT = 8, SPARE_KEY = 33 };

struct spares *spares_new(struct sandboxes *s, int64_t warm);
void spares_probed(struct spares *sp);
void spares_close(struct spares *sp); /* before the boxes are closed */
void spares_free(struct spares *sp);
size_t spares_ready(const struct spares *sp); /* warm ones */

/* A blank's name and its socket, which listens (the caller's from now on). False: there is none. */
bool spares_take_blank(struct spares *sp, struct id *name, int *ret_listen);
/* Worker: a directory becomes the session's. EXISTS where that has one. */
int spare_rename(const struct session_paths *from, const struct session_paths *to, struct err *err);
/* A session's box that needs a sandbox: true when a warm one is being given to it. */
bool spares_adopt(struct box *b);

/* What boxes tell. */
void spares_used(struct box *b);     /* a session has its sandbox: there may be more like it */
void spares_changed(struct box *b);  /* a warm one is up, or on its way out */
void spares_released(struct box *b); /* and gone */

#endif
