/* tools: the file tools, run in a short-lived child of the hand, so that a hanging file blocks
 * nothing else. bash is in shell.h.
 *
 * Each takes the model's input and appends what the model will read; false means is_error. Inputs
 * are checked leniently: members that a tool does not know are ignored, as the reference worker
 * does.
 */
#ifndef OSTLER_HAND_TOOLS_H
#define OSTLER_HAND_TOOLS_H

#include "json/json.h"

struct tool_env {
    const char *workdir; /* relative paths start here */
    bool no_rg;          /* search with our own walker even when ripgrep is there */
};

struct tool {
    const char *name;
    bool (*run)(const struct tool_env *env, const struct json *input, struct buf *out);
    bool writes; /* calls that change files run one after the other */
};

/* NULL for a name that is no file tool. */
const struct tool *tool_find(struct str name);

bool tool_read(const struct tool_env *env, const struct json *input, struct buf *out);
bool tool_write(const struct tool_env *env, const struct json *input, struct buf *out);
bool tool_edit(const struct tool_env *env, const struct json *input, struct buf *out);
bool tool_glob(const struct tool_env *env, const struct json *input, struct buf *out);
bool tool_grep(const struct tool_env *env, const struct json *input, struct buf *out);

/* ---- shared by the tools ---- */

/* Appends the message; returns false. */
bool tool_fail(struct buf *out, const char *fmt, ...) PRINTF(2, 3);
/* "tool: path: no such file or directory"; returns false. */
bool tool_fail_sys(struct buf *out, const char *tool, struct str path, int sys);
/* A required string; complains when it is missing, not a string, or (unless `empty_ok`) empty. */
bool tool_arg(const struct json *input, const char *tool, const char *key, bool empty_ok,
              struct str *value, struct buf *out);
/* The absolute form of a path argument, or a complaint. */
bool tool_path(const struct tool_env *env, const char *tool, struct str path, char abs[],
               struct buf *out);

/* ---- walking a tree (glob, and grep without ripgrep) ---- */

struct walk {
    /* A regular file: its directory (open), its name and its path below the root. False: stop. */
    bool (*file)(struct walk *w, int dir, const char *name, struct str rel);
    void *arg;
    size_t left; /* entries that may still be looked at */
    struct buf rel;
};

/* Skips .git, node_modules, symbolic links and what cannot be read. 0, or an errno for the root. */
int walk_tree(struct walk *w, const char *root);

/* Does `path` match the pattern? Segments with * ? [sets] and \ escapes; a segment "**" stands for
 * any number of directories. Names that begin with a dot must be matched by a dot. */
bool glob_match(struct str pattern, struct str path);

#endif
