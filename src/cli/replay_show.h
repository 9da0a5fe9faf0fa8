/* replay_show: what `ostler replay` prints, as text or as one JSON object.
 *
 * Main thread; owned by the command. Text is complete after each call, JSON after
 * replay_show_end().
 */
#ifndef OSTLER_CLI_REPLAY_SHOW_H
#define OSTLER_CLI_REPLAY_SHOW_H

#include "cli/replay.h"
#include "cli/term.h"
#include "json/writer.h"

struct replay_show {
    struct term term;
    struct buf out;
    struct jw w; /* of `out`, when it is JSON */
    bool as_json, asking;
    bool out_of_requests; /* set by the command */
    int64_t requests, differs, unrecorded;
    int64_t asked, same, skipped;
    struct model_usage spent;
};

void replay_show_init(struct replay_show *s, bool as_json, struct term term);
void replay_show_fini(struct replay_show *s);
/* `model`: who is asked; NULL: nobody. */
void replay_show_begin(struct replay_show *s, const struct replay_log *l, const char *model);
void replay_show_request(struct replay_show *s, const struct replay_request *q);
/* A request of which there is no answer to compare. */
void replay_show_skipped(struct replay_show *s, const struct replay_request *q);
void replay_show_spent(struct replay_show *s, const struct model_usage *used);
void replay_show_answers(struct replay_show *s, const struct replay_request *q, bool same,
                         const struct replay_answer *recorded, const struct replay_answer *other);
/* `err`: why it did not come to its end, or NULL. */
void replay_show_end(struct replay_show *s, const struct err *err);

#endif
