/* yaml: what the readers of YAML files share. Main thread. */
#ifndef OSTLER_CLI_YAML_H
#define OSTLER_CLI_YAML_H

#include "base/buf.h"

#include <libfyaml.h>

struct yaml {
    struct fy_document *doc;
    struct fy_node *root; /* NULL: it could not be read, see yaml_why(), or it is empty */
    struct fy_diag *diag;
};

/* Parses; yaml_close() in any case. `text` must stay. A text without a document, see
 * yaml_is_empty(), is an error to libfyaml. */
void yaml_open(struct yaml *y, struct str text);
void yaml_close(struct yaml *y);
/* What is wrong; NULL: nothing more is known. */
const struct fy_diag_error *yaml_why(const struct yaml *y);
/* Blank lines and comments only. */
bool yaml_is_empty(struct str text);

/* Where it stands, from 1; 0: nobody knows. */
int yaml_line(struct fy_node *n);
/* A scalar as it is written; empty when it is none. */
struct str yaml_name(struct fy_node *key);
/* "unknown key; did you mean a? Known here: a, b" */
void yaml_unknown_key(struct buf *out, struct fy_node *key, const char *const *names, size_t n);

#endif
