/* permission_rules: what needs no judge: plainly harmless and plainly dangerous calls of the
 * built-in tools. Internal to core/permission*.c. Pure.
 */
#ifndef OSTLER_CORE_PERMISSION_RULES_H
#define OSTLER_CORE_PERMISSION_RULES_H

#include "core/permission.h"

/* VERDICT_ALLOW, VERDICT_DENY (high risk), or VERDICT_ASK: no rule says anything. `input` is the
 * call's input, NULL when it cannot be read. */
enum verdict rule_of(enum tool_id tool, const struct json *input);

#endif
