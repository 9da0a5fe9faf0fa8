/* grader: one evaluation of an outcome: checks, then a model with tools in a copy of the files.
 * Private to engine/.
 *
 * Loop thread; of one actor, for as long as its turn is graded. Nothing of it is in the log but
 * what turn_grading() writes before each request: a crash begins the evaluation again. Its
 * conversation is a turn of its own that is never stored, its files are copies that nobody else
 * sees.
 *
 *     COPYING --> CHECKING --> COPYING --> GRADING --> (mail)
 *        +-------- no checks --------^
 */
#ifndef OSTLER_ENGINE_GRADER_H
#define OSTLER_ENGINE_GRADER_H

#include "engine/actor.h"

void grader_start(struct actor *a);
/* Ends it without an answer. Nothing happens when there is none. */
void grader_stop(struct actor *a);
/* What it asked for (MAIL_GRADER_ASKS) is set aside, or there is no money for it. */
void grader_go(struct actor *a);
void grader_deny(struct actor *a);
/* Which model it is. */
struct str grader_model(const struct actor *a);
/* By the present attempt. */
struct model_usage grader_used(const struct actor *a);

#endif
