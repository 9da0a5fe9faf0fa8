/* harvest: what a session left in /mnt/session/outputs becomes files of the API. Internal to
 * sandbox/.
 *
 * Loop thread. A harvest reads what is listed already (store), looks for what is new and stores its
 * contents (worker), lists it (store), and notes what it has seen (worker). One runs for a session
 * at a time, on all processes; what is asked meanwhile runs behind it.
 */
#ifndef OSTLER_SANDBOX_HARVEST_H
#define OSTLER_SANDBOX_HARVEST_H

#include "sandbox/impl.h"

/* The session is idle. Without a store it does nothing. */
void harvest_start(struct sandboxes *s, struct str session_id);
/* Once after opening: sessions whose outputs a server that died did not get to. */
void harvest_sweep(struct sandboxes *s);

#endif
