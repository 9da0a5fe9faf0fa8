/* layers: what an environment adds to the root of its sandboxes: found by the hash of its content,
 * mounted read-only, shared by every session that has the same content.
 *
 *     DATA/environments/HASH/apt    what apt packages hold: merged over /usr and /etc, /opt
 *     DATA/environments/HASH/env    /opt/env: npm, pip, cargo, gem, go, and what setup put there
 *     DATA/environments/HASH/home   what setup left in /home/agent: copied into each new one
 *     DATA/environments/HASH/etc    what sandboxes of an image see as /etc
 *
 * Blocking calls on small directories: for the worker pool, except layer_content(), which is pure.
 */
#ifndef OSTLER_SANDBOX_LAYERS_H
#define OSTLER_SANDBOX_LAYERS_H

#include "json/json.h"
#include "sandbox/recipe.h"

#include <limits.h>

enum { CONTENT_HEX = 64, LAYER_VARIABLES = 16, LAYER_PATH = PATH_MAX - 512 };

struct layer {
    char content[CONTENT_HEX + 1]; /* empty: there is none */
    char dir[LAYER_PATH];
    char base[LAYER_PATH]; /* unpacked root instead of the host's, or empty */
    bool merge;            /* the kernel shows two directories as one (overlay) */
};

/* What a sandbox is given for it. */
struct layer_view {
    struct recipe_root root;
    const char *etc; /* instead of the host's, or NULL */
    struct recipe_mount mounts[3];
    size_t nmounts;
    const char *variables[LAYER_VARIABLES * 2 + 1];
    char usr[PATH_MAX], own_etc[PATH_MAX], apt_etc[PATH_MAX], paths[4][PATH_MAX];
    char path_variable[1024], libraries[1024];
};

/* The hash of all that a build depends on. `base_id` stands for the host's system. False: the
 * config asks for nothing that has to be built. */
bool layer_content(const struct json *config, struct str base_id, char out[CONTENT_HEX + 1]);
/* A hash of what the system at `root` ("" for the host) has installed. */
void layer_base_id(const char *root, char out[CONTENT_HEX + 1]);

/* NOT_FOUND when it is not there (any more). Marks it as used now. */
int layer_view(const struct layer *l, struct layer_view *out, struct err *err) MUST_USE;
/* The same for a layer that is being built at `dir`. */
void layer_view_of(const struct layer *l, struct layer_view *out);

/* Makes what a build wrote fit to be shared: root's (`own`) and readable by everybody, nothing but
 * files, directories and links, no set-uid bits. TOO_LARGE for a home over LAYER_HOME_BYTES. */
int layer_seal(const char *dir, bool own, struct err *err) MUST_USE;
/* Fills a session's new, empty home. */
int layer_fill_home(const struct layer *l, const char *home, uid_t uid, struct err *err) MUST_USE;

/* Whether the launcher can merge directories here: tried with two empty ones below `dir`. */
bool layer_can_merge(const char *launcher, const char *dir, bool root);

#endif
