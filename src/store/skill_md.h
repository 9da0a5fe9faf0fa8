/* skill_md: the front matter of a SKILL.md: what a skill is called and what it is for. Pure; any
 * thread.
 *
 * The text is anybody's: an upload, or a file of a cloned repository. Of the YAML only `name` and
 * `description` count; what else stands there is left alone.
 */
#ifndef OSTLER_STORE_SKILL_MD_H
#define OSTLER_STORE_SKILL_MD_H

#include "base/arena.h"

struct skill_md {
    struct str name;        /* 1 to LIMIT_SKILL_NAME of a-z, 0-9 and '-' */
    struct str description; /* 1 to LIMIT_SKILL_DESCRIPTION characters, no markup, no controls but
                               line breaks and tabs */
};

/* `text` is the file from its first byte on; its end may be missing. INVALID with a message that
 * begins with "SKILL.md". */
int skill_md_read(struct arena *a, struct str text, struct skill_md *out, struct err *err) MUST_USE;

/* Whether it may be a skill's name, which is also that of its folder. */
bool skill_name_ok(struct str name);

#endif
