/* oci_layer: one layer of an image (tar, gzip or zstd), applied to a root that lower ones have
 * made.
 *
 * Nothing in it is trusted: paths are resolved below the root as if it were the system's
 * (RESOLVE_IN_ROOT), whatever links it has. Devices, pipes and sockets are left out, as are set-id
 * bits of files and extended attributes; users that a sandbox does not have become nobody.
 * Blocking; for the worker pool.
 */
#ifndef OSTLER_SANDBOX_OCI_LAYER_H
#define OSTLER_SANDBOX_OCI_LAYER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* What an image has taken so far. */
struct oci_unpacked {
    uint64_t bytes;
    size_t entries;
};

#define OCI_IMAGE_BYTES ((uint64_t)32 << 30)
enum { OCI_IMAGE_ENTRIES = 2000000 };

/* Reads `fd` twice: its digest (`hex`) is checked before anything is unpacked. */
int oci_layer_unpack(int fd, const char *hex, const char *root, struct oci_unpacked *sum,
                     struct err *err) MUST_USE;
/* Tools need a shell. */
int oci_layer_check(const char *root, struct err *err) MUST_USE;

#endif
