/* oci: the other driver: sandboxes of an OCI runtime (runc and its like) with a writable root.
 *
 * A recipe is turned into the runtime's bundle and command line instead of bubblewrap's; everything
 * else of a sandbox (hand, socket, limits, network) is the same. struct oci belongs to struct host:
 * filled when the module is opened and by the probe, then only read. All calls block: for the
 * worker pool, except oci_pid(), which reads one small file.
 */
#ifndef OSTLER_SANDBOX_OCI_H
#define OSTLER_SANDBOX_OCI_H

#include "sandbox/cgroup.h"
#include "sandbox/recipe.h"
#include "sandbox/sandbox.h"

#include <limits.h>

enum {
    OCI_ARGS = 16,
    OCI_FIRST_ID = 1 << 30,    /* sandboxes' users on the host begin here */
    OCI_IDS = 2048,            /* of each: 0 to 2046 and 65534 inside; as in hand/hand.h */
    OCI_SLOTS = (1 << 19) - 1, /* all of them below 2^31 */
};

struct oci {
    bool on; /* the driver of new sandboxes */
    const char *runtime, *args[OCI_ARGS];
    size_t nargs;
    bool no_capabilities;
    char tier[64];
    char state[PATH_MAX]; /* the runtime's own records: --root */
    char base[PATH_MAX];  /* what stands for the host's root, without its /usr */
    char made[PATH_MAX];  /* made-up files that are shown in an image's /etc */
};

/* ---- oci.c ---- */

int oci_configure(struct oci *o, const struct oci_config *cfg, struct err *err) MUST_USE;
/* The program is there, this host may run it; names the tier. */
int oci_check(struct oci *o, struct err *err) MUST_USE;
uint64_t oci_capabilities(const struct oci *o);

/* Where a session's container has its files. */
struct oci_dirs {
    const char *root;   /* SESSION/root: what was written */
    const char *bundle; /* SESSION/oci: the runtime's configuration, the pid */
};

struct oci_how {
    const struct oci *oci;
    struct oci_dirs dirs;
    const char *unit;             /* the container's name */
    const struct cgroups *cg;     /* where its group is, made before */
    struct cgroup_limits limits;  /* of that group, for runtimes that must know */
    const struct recipe_how *all; /* what it sees and runs */
    bool attached;                /* the runtime stays until it ends, for its output */
};
/* Writes the bundle and fills `out` with the launcher's command line. */
int oci_recipe(const struct oci_how *how, struct recipe *out, struct err *err) MUST_USE;
/* What a runtime or the launcher said, without the wrapping of log lines. */
struct str oci_said(struct str text);
/* Of the container's first process, 0 when it is not known (yet). */
int64_t oci_pid(const char *bundle);
/* Kills what is left and makes the runtime forget it; a name that is not there is fine. */
void oci_delete(const struct oci *o, const char *unit, const char *bundle);
/* Directories of a session: made with the right owners. `ids`: its first user. */
int oci_prepare(const struct oci_dirs *d, uid_t ids, struct err *err) MUST_USE;
/* Bytes that its root takes. */
uint64_t oci_usage(const char *root);

/* ---- oci_spec.c ---- */

/* Where a sandbox's parts are on the stage, and what its image says. */
struct oci_spec {
    const struct oci_how *how;
    const char *root;         /* the container's root on the host */
    const char *stage;        /* mounts of the recipe are below it, by number */
    const char *const *image; /* "NAME=value", NULL at the end; or NULL */
    const char *cgroup;       /* path of its group below the hierarchies; or NULL */
    const char *etc;          /* hosts, hostname and resolv.conf are shown from it; or NULL */
    uint64_t capabilities;
};
int oci_spec_write(const struct oci_spec *s, const char *path, struct err *err) MUST_USE;

/* ---- oci_host.c ---- */

/* Makes what stands for the root of a host without images: once for each state of the host. `etc`:
 * what other sandboxes see as /etc. */
int oci_host_root(const char *dir, const char *etc, char out[PATH_MAX], struct err *err) MUST_USE;

#endif
