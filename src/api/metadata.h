/* metadata: the key-value bag that every object carries. Pure; any thread. */
#ifndef OSTLER_API_METADATA_H
#define OSTLER_API_METADATA_H

#include "json/writer.h"

/* `bag` is an object of strings within the limits; with `patch` null values are fine as well. NULL
 * and null are fine. INVALID with error_code invalid_metadata. */
int metadata_check(const struct json *bag, bool patch, const char *at, struct err *err) MUST_USE;
/* The stored bag (JSON object text, absent: none) with the patch applied, in stored order, new keys
 * behind. A null deletes; with `empty_deletes` an empty string does too. INVALID past the limit. */
int metadata_merge(struct arena *a, struct str stored, const struct json *patch, bool empty_deletes,
                   const char *at, struct str *out, struct err *err) MUST_USE;

#endif
