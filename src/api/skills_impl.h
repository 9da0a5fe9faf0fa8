/* skills_impl: what the handlers of /v1/skills share. Internal to api/. */
#ifndef OSTLER_API_SKILLS_IMPL_H
#define OSTLER_API_SKILLS_IMPL_H

#include "api/api_impl.h"
#include "json/writer.h"

/* The client wants the shape of skills-2025-10-02. While the request is there. */
bool skill_dialect_old(const struct call *c);
void skill_write(struct jw *w, const struct skill_row *row, bool old);
void skill_version_write(struct jw *w, const struct skill_version_row *row, bool old);
/* The skill that the path names. Store thread. */
int skill_find(struct store_tx *tx, struct call *c, struct skill_row *row,
               struct err *err) MUST_USE;

#endif
