/* charset: bytes from the web as UTF-8. Any thread. */
#ifndef OSTLER_WEB_CHARSET_H
#define OSTLER_WEB_CHARSET_H

#include "base/buf.h"

/* Appends `in` to `out` as valid UTF-8 without NUL and other control characters but tab and line
 * ends; what cannot be read becomes U+FFFD. The charset is, in this order, what a byte order mark
 * says, `declared` (of Content-Type; may be absent), with `markup` what the document says of itself
 * in its beginning, UTF-8 where the bytes are valid, else windows-1252. Names that are unknown do
 * not count. */
void charset_to_utf8(struct str in, struct str declared, bool markup, struct buf *out);

/* The charset of a Content-Type; absent when it names none. */
struct str charset_param(struct str content_type);

#endif
