/* turn_emit: the bodies of the events that the loop itself writes. Private to core/turn*.c.
 *
 * Each appends one event to the step and folds it. Errors are sticky in the step.
 */
#ifndef OSTLER_CORE_TURN_EMIT_H
#define OSTLER_CORE_TURN_EMIT_H

#include "core/turn.h"

#define REASON_END_TURN STR("{\"type\":\"end_turn\"}")
#define REASON_RETRIES_EXHAUSTED STR("{\"type\":\"retries_exhausted\"}")
#define REASON_REFUSAL STR("{\"type\":\"refusal\"}")

void emit_simple(struct turn *t, struct turn_step *s, enum event_type type);
/* session.thread_status_{running,rescheduled,terminated} */
void emit_thread_status(struct turn *t, struct turn_step *s, enum event_type type);
/* The stop reason that names a cap, as caps_reached() and budget_reserve() do. */
struct str emit_cap_reason(struct turn_step *s, const char *cap);
/* thread_status_idle, usage, status_idle. `reason` is the thread's; the session's is the same, or
 * that a cap is reached. `details`: JSON or absent (null). */
void emit_idle(struct turn *t, struct turn_step *s, struct str reason, struct str details);
void emit_span_start(struct turn *t, struct turn_step *s, const struct request_record *r);
void emit_span_end(struct turn *t, struct turn_step *s, const struct end_record *r, bool is_error);
/* `transcript` is what stands for the conversation from now on (core/prompt.h). */
void emit_compacted(struct turn *t, struct turn_step *s, struct str transcript);
/* retry: "retrying", "exhausted" or "terminal" */
void emit_error(struct turn *t, struct turn_step *s, const char *type, const char *message,
                const char *retry);
/* The same about a sandbox: retrying. */
void emit_notice(struct turn *t, struct turn_step *s, const struct sandbox_notice *n);
/* `id` empty: a new one. */
void emit_message(struct turn *t, struct turn_step *s, struct id id,
                  const struct model_block *blocks, size_t n);
void emit_thinking(struct turn *t, struct turn_step *s, struct id id, struct str raw);
/* permission: "allow", "ask" or "deny"; evaluation: the evaluation object as JSON, or NULL (left
 * out). Returns the event's id. */
struct id emit_tool_use(struct turn *t, struct turn_step *s, const struct model_block *b,
                        const char *permission, const char *evaluation);
struct id emit_custom_tool_use(struct turn *t, struct turn_step *s, const struct model_block *b);
void emit_tool_result(struct turn *t, struct turn_step *s, struct str tool_use_id,
                      const struct tool_outcome *o);
/* The spans of an outcome's evaluation. `g` NULL: interrupted. */
void emit_evaluation_start(struct turn *t, struct turn_step *s);
void emit_evaluation_ongoing(struct turn *t, struct turn_step *s,
                             const struct evaluation_record *r);
void emit_evaluation_end(struct turn *t, struct turn_step *s, enum outcome_result result,
                         const struct grade *g);
void emit_updated(struct turn *t, struct turn_step *s, const struct turn_update *u);
/* An inbox event becomes part of the log: its processed_at is filled in. Moves it to `taken`. */
void emit_input(struct turn *t, struct turn_step *s, struct turn_input *in);

#endif
