/* load: the load generator. Prints one line of JSON.
 *
 *   load rate PORT CONNECTIONS MS METHOD [BODY] <paths
 *        closed loop over the paths, each connection over its own share; MS 0: each path once;
 *        a line may be a path, a tab and a body of its own
 *   load turns PORT CONCURRENT ROUNDS TEXT <session ids
 *        each session has ROUNDS turns, watched on its stream; the first one is counted apart
 *   load first PORT N TEXT <body of POST /v1/sessions
 *        N times: a new session, its stream, its first turn
 *   load fan PORT STREAMS ROUNDS STREAM_PATH POST_PATH BODY EVENT
 *        one POST a round; how long until EVENT is whole on every stream
 *   load stall PORT COUNT <session ids
 *        COUNT streams for each session that nobody reads, until it is killed
 */
#include "load.h"

#include "samples.h"

#include <stdlib.h>

void lines_read(struct lines *l)
{
    char *line = NULL;
    size_t cap = 0, room = 0;
    *l = (struct lines){0};
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        struct str s = str_trim(str_n(line, (size_t)n));
        if (s.len == 0)
            continue;
        if (l->n == room) {
            room = room ? room * 2 : 64;
            l->line = mem_realloc(l->line, room * sizeof *l->line);
        }
        l->line[l->n++] = mem_dupz(s.ptr, s.len);
    }
    free(line);
    if (l->n == 0)
        die("nothing on stdin");
}

void lines_fini(struct lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->line[i]);
    mem_free(l->line);
}

void put_message(struct buf *out, const char *text)
{
    buf_printf(out,
               "{\"events\":[{\"type\":\"user.message\",\"content\":"
               "[{\"type\":\"text\",\"text\":\"%s\"}]}]}",
               text);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } modes[] = {{"rate", load_rate},
                 {"turns", load_turns},
                 {"first", load_first},
                 {"fan", load_fan},
                 {"stall", load_stall}};
    for (size_t i = 0; argc > 1 && i < COUNT_OF(modes); i++) {
        if (strcmp(argv[1], modes[i].name) == 0)
            return modes[i].run(argc - 1, argv + 1);
    }
    die("usage: load rate|turns|first|fan|stall ...");
}
