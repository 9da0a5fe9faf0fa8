/* tools_decode: an agent's `tools` array, checked and put into the form that responses use: every
 * default filled in. Pure; any thread. */
#ifndef OSTLER_API_TOOLS_DECODE_H
#define OSTLER_API_TOOLS_DECODE_H

#include "json/writer.h"

/* `tools` is an array or null (written as []). INVALID with a pointer below `at`. */
int tools_decode(struct arena *a, const struct json *tools, const char *at, struct str *out,
                 struct err *err) MUST_USE;

#endif
