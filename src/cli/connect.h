/* connect: what the small commands share: a loop and a client of the server that is meant.
 *
 * Main thread; on the command's stack from connect_open() to connect_close().
 */
#ifndef OSTLER_CLI_CONNECT_H
#define OSTLER_CLI_CONNECT_H

#include "cli/client.h"

struct connect_flags {
    const char *server, *data; /* NULL: not said */
};

struct connect {
    struct loop *loop;
    struct client client;
    struct arena arena;
};

/* --server, else OSTLER_BASE_URL, else the server that owns the data directory, else the default
 * address. CONNECT or AUTH with the remedy. */
int connect_open(struct connect *c, const struct connect_flags *flags, struct err *err) MUST_USE;
void connect_close(struct connect *c);

/* A session id as a person types it: refused here rather than sent as a path. */
int connect_check_session(const char *id, struct err *err) MUST_USE;
struct command_spec;
struct option_words;
/* options_begin() of a command whose first word is a session's id, and that check. */
bool connect_begin(const struct command_spec *spec, int argc, char **argv,
                   struct option_words *words, int *exit_code) MUST_USE;

#define CONNECT_OPTIONS(flags)                                                                     \
    {"server", 0, OPTION_TEXT, &(flags).server, "URL", "server to ask [OSTLER_BASE_URL]", 0, 0},   \
    {                                                                                              \
        "data", 0, OPTION_TEXT, &(flags).data, "DIR", "data directory [OSTLER_DATA]", 0, 0         \
    }

#endif
