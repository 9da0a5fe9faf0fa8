#include "cli/yaml.h"

#include "cli/cli.h"

void yaml_open(struct yaml *y, struct str text)
{
    *y = (struct yaml){.diag = fy_diag_create(NULL)};
    if (y->diag)
        fy_diag_set_collect_errors(y->diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET, .diag = y->diag};
    y->doc = fy_document_build_from_string(&cfg, text.ptr, text.len);
    y->root = y->doc ? fy_document_root(y->doc) : NULL;
}

void yaml_close(struct yaml *y)
{
    fy_document_destroy(y->doc);
    fy_diag_destroy(y->diag);
    *y = (struct yaml){0};
}

const struct fy_diag_error *yaml_why(const struct yaml *y)
{
    void *at = NULL;
    return y->diag ? fy_diag_errors_iterate(y->diag, &at) : NULL;
}

bool yaml_is_empty(struct str text)
{
    while (str_some(text)) {
        struct str line = str_trim(str_split(&text, '\n'));
        if (line.len && line.ptr[0] != '#')
            return false;
    }
    return true;
}

int yaml_line(struct fy_node *n)
{
    void *at = NULL;
    if (fy_node_is_mapping(n)) {
        struct fy_node_pair *p = fy_node_mapping_iterate(n, &at);
        n = p ? fy_node_pair_key(p) : NULL;
    } else if (fy_node_is_sequence(n)) {
        n = fy_node_sequence_iterate(n, &at);
    }
    struct fy_token *t = n && fy_node_is_scalar(n) ? fy_node_get_scalar_token(n) : NULL;
    const struct fy_mark *m = t ? fy_token_start_mark(t) : NULL;
    return m ? m->line + 1 : 0;
}

struct str yaml_name(struct fy_node *key)
{
    size_t len = 0;
    const char *name = key && fy_node_is_scalar(key) ? fy_node_get_scalar(key, &len) : NULL;
    return name ? str_n(name, len) : STR("");
}

void yaml_unknown_key(struct buf *out, struct fy_node *key, const char *const *names, size_t n)
{
    char typed[64];
    bool fits = str_copyz(typed, sizeof typed, yaml_name(key));
    const char *near = fits ? cli_nearest(typed, names, n) : NULL;
    buf_z(out, "unknown key; ");
    if (near)
        buf_printf(out, "did you mean %s? ", near);
    buf_z(out, near ? "Known here: " : "known here: ");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i ? ", " : "", names[i]);
}
