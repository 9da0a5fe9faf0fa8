/* egress_fixture: a proxy process (this very test, started again), the servers it may and may not
 * reach, and clients on blocking sockets. One test at a time; everything is a global.
 */
#ifndef OSTLER_TESTS_EGRESS_FIXTURE_H
#define OSTLER_TESTS_EGRESS_FIXTURE_H

#include "egress/egress.h"

#include "base/buf.h"

enum { FIXTURE_DECISIONS = 256 };

struct seen {
    enum egress_reason reason;
    bool connect;
    char session[64], host[256], address[64], detail[512];
    uint16_t port;
    uint64_t up, down;
    int64_t started_us, duration_us;
};

extern struct loop *fx_loop;
extern struct egress *fx_egress;
extern int fx_server, fx_canary;         /* listening on 127.0.0.1 */
extern uint16_t fx_port, fx_canary_port; /* theirs */
extern struct seen fx_seen[FIXTURE_DECISIONS];
extern size_t fx_nseen;
extern unsigned fx_troubles;

/* The main() of a test that uses this starts with it: true when it was the proxy. */
bool fx_is_proxy(int argc, char **argv, int *exit_code);

int fx_setup(void **state);
int fx_teardown(void **state); /* fails when the canary was reached */

struct fx_options {
    bool unrestricted, closed; /* closed: loopback is not opened */
    int64_t idle_ms, connections;
};
/* ok.test, other.test, off.test and *.wild.test lead to 127.0.0.1; the first two, *.wild.test and
 * gone.test are allowed. */
void fx_start(const struct fx_options *o);
int fx_dial(void);   /* a client at the sandbox's socket */
int fx_accept(void); /* the server's end of the next connection to it */
void fx_send(int fd, const char *text, ...) PRINTF(2, 3);
void fx_send_bytes(int fd, struct str bytes);
/* Until `until` has come, or the end (NULL); a static buffer. Fails when nothing comes. */
const char *fx_read(int fd, const char *until);
bool fx_at_end(int fd);                   /* nothing more comes */
const struct seen *fx_decision(size_t n); /* waits for the n-th */
void fx_run_until(bool (*done)(void));
/* A TLS hello with this name. */
struct str fx_hello(const char *name);

#endif
