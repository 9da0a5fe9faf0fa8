/* compact: small JSON text tools of the API's decoders. Pure; any thread. */
#ifndef OSTLER_API_COMPACT_H
#define OSTLER_API_COMPACT_H

#include "json/writer.h"

/* Copies JSON text without the blanks between its tokens: what is stored must hold no line break,
 * because it is served in stream frames as it is. The text must have been parsed before. */
void compact_put(struct buf *out, struct str raw);
/* The same as a value of a writer. */
void compact_value(struct jw *w, struct str raw);
/* The members of a compact object among those of the object being written. */
void compact_members(struct jw *w, struct str object);
/* Moves a finished buffer into the arena. LIMIT when either is full. */
int compact_keep(struct arena *a, struct buf *b, struct str *out, struct err *err) MUST_USE;

#endif
