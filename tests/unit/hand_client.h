/* hand_client: starts a hand outside a sandbox and speaks its protocol; for tests. One thread;
 * fails the running cmocka test when nothing comes in time.
 */
#ifndef OSTLER_TESTS_HAND_CLIENT_H
#define OSTLER_TESTS_HAND_CLIENT_H

#include "hand/proto.h"

#include <sys/types.h>

struct hand_run {
    pid_t pid;
    char dir[64]; /* temporary; holds work/, spill/ and the socket */
    char socket[96];
};

struct client {
    int fd;
    struct buf in;
    struct arena arena; /* of the frame that was read last */
};

/* `extra`: NULL-terminated further arguments, or NULL. */
void hand_start(struct hand_run *h, const char *exe, const char *const *extra);
int hand_wait(struct hand_run *h);  /* its wait status */
void hand_stop(struct hand_run *h); /* ends it and removes the directory */

void client_open(struct client *c, const char *socket); /* reads the hello */
void client_close(struct client *c);
void client_send(struct client *c, const char *json);
void client_run(struct client *c, const char *id, const char *tool, const char *input);
/* The next frame, whatever it is. */
const struct json *client_read(struct client *c);
/* The next frame with this op and (unless NULL) id; others are dropped. */
const struct json *client_wait(struct client *c, const char *op, const char *id);
/* True when the peer has closed. */
bool client_closed(struct client *c);

#endif
