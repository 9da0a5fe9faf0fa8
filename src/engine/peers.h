/* peers: the other server processes on the same data directory: the peer port of core/ports.h.
 *
 * Loop thread. Each process listens on DATA/owners/ID.peer and keeps one connection to every other,
 * on which it only talks; it hears on those that others made to it. A process that starts finds the
 * others in DATA/owners and connects; they connect back. A connection that ends is how a death is
 * noticed; the file lock says whether it is one. So nothing wakes a process that is alone, and one
 * that has others only once a second.
 */
#ifndef OSTLER_ENGINE_PEERS_H
#define OSTLER_ENGINE_PEERS_H

#include "engine/engine.h"
#include "engine/owner.h"
#include "io/loop.h"

struct peers;

/* `data` and `me` (open) must outlive it. */
struct peers *peers_new(struct loop *l, const char *data, const struct owner *me);
/* Can be asked at once; told of others' news only after peers_start(). */
struct peer_port peers_port(struct peers *p);
int peers_start(struct peers *p, struct engine *e, struct err *err) MUST_USE;
/* The engine hears nothing more; the others still see this process alive. */
void peers_stop(struct peers *p);
/* The connections end, which is how the others notice: right before the lock goes. Freed after
 * `closed`, which may be NULL. The port may be asked until then. */
void peers_close(struct peers *p, void (*closed)(void *arg), void *arg);

#endif
