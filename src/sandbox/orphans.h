/* orphans: children of bubblewrap that wait for ever for one that was killed. Internal to sandbox/.
 *
 * Between making its namespaces and arming --die-with-parent bubblewrap's child waits for a word
 * from its parent. Where a server is killed in that moment the parent goes with it and the word
 * never comes; no other process has the child in its hands.
 */
#ifndef OSTLER_SANDBOX_ORPHANS_H
#define OSTLER_SANDBOX_ORPHANS_H

/* Ends them, whichever server's of this user they were: with its parent gone none can go on.
 * Worker.
 */
void orphans_end(void);

#endif
