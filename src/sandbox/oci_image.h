/* oci_image: images of OCI layouts (image-spec 1.0), unpacked once for each manifest.
 *
 * A layout was made by somebody else: every digest on the way from index.json is checked, and no
 * name, link or whiteout in a layer leads out of the new root. Blocking; for the worker pool.
 */
#ifndef OSTLER_SANDBOX_OCI_IMAGE_H
#define OSTLER_SANDBOX_OCI_IMAGE_H

#include "base/arena.h"

#include <limits.h>

enum { OCI_IMAGE_VARIABLES = 256 };

/* Unpacks the layout's image for this machine below `cache` and names its root:
 * CACHE/DIGEST/root, beside which config.json is what the image says of itself. One call at a time
 * on a cache (the lock of builds). */
int oci_image_unpack(const char *layout, const char *cache, char out[PATH_MAX],
                     struct err *err) MUST_USE;
/* "NAME=value" of the image whose root this is, NULL at the end; none for any other root (NULL). */
void oci_image_variables(struct arena *a, const char *root,
                         const char *out[OCI_IMAGE_VARIABLES + 1]);
/* Removes images that no layer below `layers` names (by its link "image") and that are old. */
void oci_image_sweep(const char *cache, const char *layers, int64_t older_than_s);

#endif
