/* mime: media types by a name's extension. Any thread. */
#ifndef OSTLER_BASE_MIME_H
#define OSTLER_BASE_MIME_H

#include "base/str.h"

/* application/octet-stream for what is not known. */
struct str mime_of_name(struct str filename);
/* The first extension of that type; absent: not known. */
struct str mime_extension(struct str type);

#endif
