/* environments_config: what a sandbox is built from, as it stands in an environment's config:
 * packages, and our setup, variables, limits and image. Checks it and writes it back. Pure; any
 * thread.
 */
#ifndef OSTLER_API_ENVIRONMENTS_CONFIG_H
#define OSTLER_API_ENVIRONMENTS_CONFIG_H

#include "json/writer.h"

/* The members of a patch's config; NULL: not given. */
struct contents_patch {
    const struct json *packages, *setup, *variables, *limits, *image;
};

/* INVALID with the field below /config. */
int contents_check(const struct contents_patch *in, struct err *err) MUST_USE;
/* Members of the config that is being written: what the patch gives, else what is stored; null and
 * {} clear. */
void contents_write(struct jw *w, const struct contents_patch *in, const struct json *stored);
/* INVALID when the config (as it is to be stored) has packages that its networking keeps out. */
int contents_check_reach(const struct json *config, struct err *err) MUST_USE;

#endif
