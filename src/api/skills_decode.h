/* skills_decode: an agent's `skills` array, checked and put into the form that responses use. Pure;
 * any thread. Whether the skills exist: skill_refs.h. */
#ifndef OSTLER_API_SKILLS_DECODE_H
#define OSTLER_API_SKILLS_DECODE_H

#include "json/writer.h"

/* `skills` is an array or null (written as []). INVALID with a pointer below `at`. */
int skills_decode(struct arena *a, const struct json *skills, const char *at, struct str *out,
                  struct err *err) MUST_USE;
/* Skills are read with the read tool: INVALID at `at` when `skills` is not empty and `tools` does
 * not offer it. Both are JSON text of a definition. */
int skills_check_tools(struct arena *a, struct str skills, struct str tools, const char *at,
                       struct err *err) MUST_USE;

#endif
