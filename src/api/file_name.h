/* file_name: what a file is called and which type it has, from what its uploader said. Pure; any
 * thread.
 */
#ifndef OSTLER_API_FILE_NAME_H
#define OSTLER_API_FILE_NAME_H

#include "base/arena.h"

/* The type without parameters, in lower case. Without one, or with the one that only says "bytes",
 * the name's extension decides. INVALID at "file" for text that is no type. */
int file_type_decide(struct arena *a, struct str given, struct str filename, struct str *out,
                     struct err *err) MUST_USE;
/* The last component of a path (of either kind); without one "unnamed" and the extension of the
 * type, which file_type_decide() made. INVALID at "file" for forbidden characters and for names
 * over LIMIT_FILENAME_CHARS. */
int file_name_decide(struct arena *a, struct str given, struct str type, struct str *out,
                     struct err *err) MUST_USE;

#endif
