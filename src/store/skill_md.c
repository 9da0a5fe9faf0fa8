#include "store/skill_md.h"

#include "base/buf.h"
#include "base/limits.h"

#include <libfyaml.h>

/* Of the name, the description and whatever others keep there. */
enum { FRONT_MAX = 32 * 1024 };

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "SKILL.md: %s", what);
}

bool skill_name_ok(struct str name)
{
    if (name.len < 1 || name.len > LIMIT_SKILL_NAME)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return true;
}

/* ---- the lines between the dashes ---- */

static struct str next_line(struct str *rest)
{
    struct str line = str_split(rest, '\n');
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

static bool is_fence(struct str line)
{
    while (line.len > 3 && (line.ptr[line.len - 1] == ' ' || line.ptr[line.len - 1] == '\t'))
        line.len--;
    return str_eqz(line, "---");
}

static int find_front(struct str text, struct str *out, struct err *err)
{
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_skip(text, 3);
    struct str rest = text;
    if (!is_fence(next_line(&rest)))
        return bad(err, "it must begin with a line '---', then name and description as YAML, then "
                        "another '---'");
    struct str front = rest;
    while (str_some(rest)) {
        size_t before = rest.len;
        if (is_fence(next_line(&rest))) {
            *out = str_take(front, front.len - before);
            return 0;
        }
        if (front.len - rest.len > FRONT_MAX)
            return bad(err, "its front matter is over 32 KB");
    }
    return bad(err, "its front matter is not closed: a line '---' is missing behind it");
}

/* ---- the values ---- */

/* Code points that end up in a prompt or on a terminal as something else than text. */
static bool has_controls(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
            return true;
    }
    return false;
}

/* "<b>", "</b>", "<a href=x>" */
static bool has_markup(struct str s)
{
    ptrdiff_t at;
    while ((at = str_find_ch(s, '<')) >= 0) {
        s = str_skip(s, (size_t)at + 1);
        char c = s.len ? s.ptr[0] : ' ';
        if ((c == '/' || c == '!' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) &&
            str_find_ch(s, '>') > 0)
            return true;
    }
    return false;
}

/* The text of a scalar, at most FRONT_MAX bytes. By the token's iterator: fy_node_get_scalar() of
 * libfyaml 0.7 never frees what it needs for a text with many escapes. Any other node gives none.
 */
static struct str scalar(struct fy_node *v, struct buf *out)
{
    struct fy_token *token =
        v && fy_node_is_scalar(v) && !fy_node_is_alias(v) ? fy_node_get_scalar_token(v) : NULL;
    struct fy_token_iter *iter = token ? fy_token_iter_create(token) : NULL;
    buf_clear(out);
    if (!iter)
        return STR_NONE;
    for (const struct fy_iter_chunk *c = NULL; (c = fy_token_iter_chunk_next(iter, c, NULL));)
        buf_put(out, c->str, c->len);
    fy_token_iter_destroy(iter);
    return buf_ok(out) ? str_n(out->len ? out->data : "", out->len) : STR_NONE;
}

static int read_text(struct arena *a, struct str text, const char *key, struct str *out,
                     struct err *err)
{
    if (!str_some(text))
        return err_set(err, ERR_INVALID, "SKILL.md: %s must be text", key);
    struct str s = str_trim(text);
    if (str_some(*out))
        return err_set(err, ERR_INVALID, "SKILL.md: %s is there twice", key);
    if (!str_utf8(s) || has_controls(s))
        return err_set(err, ERR_INVALID, "SKILL.md: %s must be plain text in UTF-8", key);
    *out = arena_str(a, s);
    return str_some(*out) ? 0 : err_set(err, ERR_LIMIT, "SKILL.md: it is too large");
}

static int check(const struct skill_md *md, struct err *err)
{
    if (!md->name.len)
        return bad(err, "name is missing from its front matter");
    if (!skill_name_ok(md->name))
        return err_set(err, ERR_INVALID,
                       "SKILL.md: name '" STR_FMT "' must be 1 to %d lower-case letters, digits "
                       "and hyphens",
                       STR_ARG(str_utf8_take(md->name, 80)), LIMIT_SKILL_NAME);
    if (!md->description.len)
        return bad(err, "description is missing from its front matter");
    if (str_utf8_len(md->description) > LIMIT_SKILL_DESCRIPTION)
        return err_set(err, ERR_INVALID, "SKILL.md: description must have at most %d characters",
                       LIMIT_SKILL_DESCRIPTION);
    if (has_markup(md->description))
        return bad(err, "description must hold no XML tags");
    return 0;
}

static bool is_null(struct fy_node *v, struct str text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (!v || fy_node_is_null(v))
        return true;
    if (!str_some(text) || fy_node_get_style(v) != FYNS_PLAIN)
        return false;
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_eqz(text, words[i]))
            return true;
    return false;
}

static int read_front(struct arena *a, struct fy_node *root, struct skill_md *out, struct err *err)
{
    struct skill_md md = {0};
    AUTO_BUF struct buf name = BUF_INIT(FRONT_MAX + 1);
    AUTO_BUF struct buf value = BUF_INIT(FRONT_MAX + 1);
    void *iter = NULL;
    int rc = 0;
    if (!fy_node_is_mapping(root) || fy_node_is_alias(root))
        return bad(err, "its front matter must be a YAML mapping with name and description");
    for (struct fy_node_pair *kv; rc == 0 && (kv = fy_node_mapping_iterate(root, &iter));) {
        struct str key = scalar(fy_node_pair_key(kv), &name);
        struct str text = scalar(fy_node_pair_value(kv), &value);
        if (is_null(fy_node_pair_value(kv), text))
            continue;
        if (str_eqz(key, "name"))
            rc = read_text(a, text, "name", &md.name, err);
        else if (str_eqz(key, "description"))
            rc = read_text(a, text, "description", &md.description, err);
    }
    if (rc == 0)
        rc = check(&md, err);
    if (rc == 0)
        *out = md;
    return rc;
}

static int fail_syntax(struct fy_diag *diag, struct err *err)
{
    void *at = NULL;
    const struct fy_diag_error *e = diag ? fy_diag_errors_iterate(diag, &at) : NULL;
    if (!e || !e->msg)
        return bad(err, "its front matter is not YAML");
    /* One line for the fence above, one because libfyaml counts from 0 here. */
    struct str msg = str_utf8_take(str_z(e->msg), 160);
    return err_set(err, ERR_INVALID,
                   "SKILL.md: its front matter is not YAML (line %d): " STR_FMT
                   "; put a value that holds ': ' or '#' into quotes",
                   e->line + 1, STR_ARG(msg));
}

/* Blanks and comments alone are no document to libfyaml, which calls that an error. */
static bool has_content(struct str front)
{
    while (str_some(front)) {
        struct str line = str_trim(str_split(&front, '\n'));
        if (line.len && line.ptr[0] != '#')
            return true;
    }
    return false;
}

int skill_md_read(struct arena *a, struct str text, struct skill_md *out, struct err *err)
{
    struct str front;
    int rc = find_front(text, &front, err);
    if (rc)
        return rc;
    if (!str_utf8(front) || has_controls(front))
        return bad(err, "its front matter must be plain text in UTF-8");
    /* It would write to our standard error of its own accord. */
    struct fy_diag_cfg quiet;
    fy_diag_cfg_default(&quiet);
    quiet.level = FYET_MAX;
    struct fy_diag *diag = fy_diag_create(&quiet);
    if (diag)
        fy_diag_set_collect_errors(diag, true);
    /* Aliases are not resolved, so that nothing can grow; keys are not compared, for what that
     * costs with many of them: those that matter are compared here. */
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_ALLOW_DUPLICATE_KEYS, .diag = diag};
    struct fy_document *doc = fy_document_build_from_string(&cfg, front.ptr, front.len);
    struct fy_node *root = doc ? fy_document_root(doc) : NULL;
    if (!doc && has_content(front))
        rc = fail_syntax(diag, err);
    else if (!root)
        rc = bad(err, "name and description are missing from its front matter");
    else
        rc = read_front(a, root, out, err);
    fy_document_destroy(doc);
    fy_diag_destroy(diag);
    return rc;
}
