/* skill_refs: the skills that a definition names, looked up in the store. Store thread. */
#ifndef OSTLER_API_SKILL_REFS_H
#define OSTLER_API_SKILL_REFS_H

#include "json/writer.h"
#include "store/store.h"

struct skill_refs {
    struct skill_version_row *rows; /* in the order of the definition */
    size_t n;
};

/* `skills` is the definition's text (skills_decode.h), `at` where it stands. NOT_FOUND for a skill
 * or version that the workspace does not have; INVALID for two skills of one name, whose folders
 * would be one. */
int skill_refs_find(struct store_tx *tx, struct str ws, struct str skills, const char *at,
                    struct arena *a, struct skill_refs *out, struct err *err) MUST_USE;
/* The definition's text with each version named: what a session keeps of it. */
int skill_refs_snapshot(const struct skill_refs *refs, struct arena *a, struct str *out,
                        struct err *err) MUST_USE;
/* The "skills" of a session's provision, as an array: what its sandbox and its prompt need. */
void skills_provision(const struct skill_refs *refs, struct jw *w);
/* Keeps their contents for the session, whatever becomes of the skills. */
int skill_refs_hold(struct store_tx *tx, int64_t session_key, const struct skill_refs *refs,
                    struct err *err) MUST_USE;

#endif
