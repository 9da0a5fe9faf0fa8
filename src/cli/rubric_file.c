#include "cli/rubric_file.h"

#include "base/fd.h"
#include "base/limits.h"
#include "cli/yaml.h"
#include "core/outcome.h"
#include "engine/check.h"

#include <stdio.h>

struct reader {
    struct rubric_file *f;
    bool front; /* of Markdown: the text itself is the content */
    bool has_content;
    struct rubric_check *check; /* the one being read */
    struct str name, text;      /* of the criterion being read */
    int text_line;
    struct str source; /* the YAML */
};

struct key {
    const char *name;
    int (*read)(struct reader *r, struct fy_node *key, struct fy_node *value, struct err *err);
};

/* ---- errors ---- */

static int line_of(const struct reader *r, struct fy_node *n)
{
    int line = yaml_line(n);
    return line ? line + r->f->first_line - 1 : 0;
}

static int fail(const struct reader *r, int line, struct str key, const char *what, struct err *err)
{
    char at[ERR_AT_MAX];
    str_copyz(at, sizeof at, str_utf8_take(key, sizeof at - 1));
    if (line)
        return err_at(err, ERR_INVALID, at, "%s:%d: %s%s%s", r->f->path, line, at,
                      at[0] ? ": " : "", what);
    return err_at(err, ERR_INVALID, at, "%s: %s%s%s", r->f->path, at, at[0] ? ": " : "", what);
}

static int fail_key(const struct reader *r, struct fy_node *key, const char *what, struct err *err)
{
    return fail(r, line_of(r, key), yaml_name(key), what, err);
}

static int fail_unknown(const struct reader *r, struct fy_node *key, const struct key *keys,
                        struct err *err)
{
    AUTO_BUF struct buf words = BUF_INIT(1024);
    const char *names[16];
    size_t n = 0;
    for (const struct key *k = keys; k->name && n < COUNT_OF(names); k++)
        names[n++] = k->name;
    yaml_unknown_key(&words, key, names, n);
    return fail_key(r, key, words.data, err);
}

/* ---- values ---- */

/* A scalar's text in the arena, blanks around cut; empty for null. */
static bool text_of(const struct reader *r, struct fy_node *value, struct str *out)
{
    if (!fy_node_is_scalar(value) || fy_node_is_alias(value))
        return false;
    size_t len = 0;
    const char *text = fy_node_get_scalar(value, &len);
    *out = arena_str(r->f->arena, text && len ? str_n(text, len) : STR(""));
    return str_some(*out);
}

static int read_text(const struct reader *r, struct fy_node *key, struct fy_node *value, size_t max,
                     struct str *out, struct err *err)
{
    char what[64];
    if (!text_of(r, value, out))
        return fail_key(r, key, "must be a text", err);
    if (!str_utf8(*out))
        return fail_key(r, key, "must be UTF-8", err);
    if (str_trim(*out).len == 0)
        return fail_key(r, key, "must not be empty", err);
    snprintf(what, sizeof what, "too long: at most %zu characters", max);
    return str_utf8_len(*out) > max ? fail_key(r, key, what, err) : 0;
}

static int read_number(const struct reader *r, struct fy_node *key, struct fy_node *value,
                       int64_t min, int64_t max, int64_t *out, struct err *err)
{
    struct str text;
    char what[96];
    if (text_of(r, value, &text) && str_i64(text, out) && *out >= min && *out <= max)
        return 0;
    snprintf(what, sizeof what, "must be a whole number from %lld to %lld", (long long)min,
             (long long)max);
    return fail_key(r, key, what, err);
}

static int read_map(struct reader *r, struct fy_node *map, const struct key *keys, struct err *err)
{
    void *at = NULL;
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(map, &at));) {
        struct fy_node *key = fy_node_pair_key(p);
        const struct key *k = keys;
        while (k->name && !str_eqz(yaml_name(key), k->name))
            k++;
        int rc =
            k->name ? k->read(r, key, fy_node_pair_value(p), err) : fail_unknown(r, key, keys, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- checks ---- */

static int read_check_name(struct reader *r, struct fy_node *key, struct fy_node *value,
                           struct err *err)
{
    return read_text(r, key, value, LIMIT_CHECK_NAME_CHARS, &r->check->name, err);
}

static int read_check_run(struct reader *r, struct fy_node *key, struct fy_node *value,
                          struct err *err)
{
    return read_text(r, key, value, LIMIT_CHECK_RUN_CHARS, &r->check->run, err);
}

static int read_check_matches(struct reader *r, struct fy_node *key, struct fy_node *value,
                              struct err *err)
{
    struct err why;
    char what[ERR_MSG_MAX + 32];
    int rc = read_text(r, key, value, LIMIT_CHECK_PATTERN_CHARS, &r->check->matches, err);
    if (rc || check_pattern(r->check->matches, &why) == 0)
        return rc;
    snprintf(what, sizeof what, "is no regular expression: %s", why.msg);
    return fail_key(r, key, what, err);
}

static int read_check_exit(struct reader *r, struct fy_node *key, struct fy_node *value,
                           struct err *err)
{
    r->check->has_exit = true;
    return read_number(r, key, value, 0, 255, &r->check->expect_exit, err);
}

static int read_check_timeout(struct reader *r, struct fy_node *key, struct fy_node *value,
                              struct err *err)
{
    return read_number(r, key, value, 1, LIMIT_CHECK_SECONDS_MAX, &r->check->timeout_seconds, err);
}

static const struct key check_keys[] = {{"name", read_check_name},
                                        {"run", read_check_run},
                                        {"expect_exit", read_check_exit},
                                        {"expect_stdout_matches", read_check_matches},
                                        {"timeout_seconds", read_check_timeout},
                                        {0}};

static int read_check(struct reader *r, struct fy_node *key, struct fy_node *item, struct err *err)
{
    struct rubric_check *c = r->check = &r->f->checks[r->f->nchecks++];
    if (!fy_node_is_mapping(item))
        return fail(r, line_of(r, item), yaml_name(key), "each must be a mapping with name and run",
                    err);
    c->line = line_of(r, item);
    int rc = read_map(r, item, check_keys, err);
    if (rc)
        return rc;
    if (!str_some(c->name) || !str_some(c->run))
        return fail(r, c->line, yaml_name(key),
                    str_some(c->name) ? "run is missing: the command" : "name is missing", err);
    for (const struct rubric_check *other = r->f->checks; other < c; other++)
        if (str_eq(other->name, c->name))
            return fail(r, c->line, yaml_name(key), "two have the same name", err);
    return 0;
}

static int read_checks(struct reader *r, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    void *at = NULL;
    if (!fy_node_is_sequence(value))
        return fail_key(r, key, "must be a list", err);
    if (fy_node_sequence_item_count(value) > LIMIT_CHECKS)
        return fail_key(r, key, "too many: at most 50", err);
    _Static_assert(LIMIT_CHECKS == 50, "the message names it");
    r->f->checks = ARENA_ARRAY(r->f->arena, struct rubric_check, LIMIT_CHECKS);
    if (!r->f->checks)
        return fail_key(r, key, "too large", err);
    for (struct fy_node *item; (item = fy_node_sequence_iterate(value, &at));) {
        int rc = read_check(r, key, item, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- content ---- */

static void add_piece(struct rubric_file *f, size_t at, int line)
{
    f->pieces[f->npieces++] = (struct rubric_piece){at, line};
}

static int read_content(struct reader *r, struct fy_node *key, struct fy_node *value,
                        struct err *err)
{
    if (r->front)
        return fail_key(r, key, "the text below the front matter is the content", err);
    if (r->has_content)
        return fail_key(r, key, "there are content and criteria: choose one", err);
    r->has_content = true;
    r->f->pieces = ARENA_ARRAY(r->f->arena, struct rubric_piece, 1);
    if (!r->f->pieces)
        return fail_key(r, key, "too large", err);
    add_piece(r->f, 0, line_of(r, value));
    return read_text(r, key, value, LIMIT_RUBRIC_CHARS, &r->f->content, err);
}

static int read_criterion_name(struct reader *r, struct fy_node *key, struct fy_node *value,
                               struct err *err)
{
    return read_text(r, key, value, LIMIT_RUBRIC_CHARS, &r->name, err);
}

static int read_criterion_text(struct reader *r, struct fy_node *key, struct fy_node *value,
                               struct err *err)
{
    r->text_line = line_of(r, value);
    return read_text(r, key, value, LIMIT_RUBRIC_CHARS, &r->text, err);
}

static const struct key criterion_keys[] = {
    {"name", read_criterion_name}, {"text", read_criterion_text}, {0}};

/* As an item of a Markdown list: that is how the grader's side takes the content apart. */
static void put_item(struct reader *r, struct buf *out, int line)
{
    struct str name = str_trim(r->name), text = str_trim(r->text);
    add_piece(r->f, out->len, line);
    buf_ch(out, '-');
    if (name.len) {
        buf_ch(out, ' ');
        buf_str(out, name);
        buf_z(out, text.len ? ":" : "");
        if (text.len)
            add_piece(r->f, out->len, r->text_line);
    }
    for (const char *lead = " "; str_some(text) && text.len; lead = "\n  ") {
        buf_z(out, lead);
        buf_str(out, str_split(&text, '\n'));
    }
    buf_ch(out, '\n');
}

/* An item without anything has no place in the document; its mark stands alone on a line. */
static int line_of_mark(const struct reader *r, int after)
{
    struct str rest = r->source;
    for (int line = r->f->first_line; str_some(rest); line++)
        if (str_eqz(str_trim(str_split(&rest, '\n')), "-") && line > after)
            return line;
    return after;
}

static int read_criteria(struct reader *r, struct fy_node *key, struct fy_node *value,
                         struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(2 * RUBRIC_FILE_BYTES);
    void *at = NULL;
    if (r->front)
        return fail_key(r, key, "the text below the front matter holds the criteria", err);
    if (r->has_content)
        return fail_key(r, key, "there are content and criteria: choose one", err);
    if (!fy_node_is_sequence(value) || fy_node_sequence_item_count(value) == 0)
        return fail_key(r, key, "must be a list with at least one criterion", err);
    r->has_content = true;
    r->f->pieces = ARENA_ARRAY(r->f->arena, struct rubric_piece,
                               2 * (size_t)fy_node_sequence_item_count(value));
    if (!r->f->pieces)
        return fail_key(r, key, "too large", err);
    int line = line_of(r, key);
    for (struct fy_node *item; (item = fy_node_sequence_iterate(value, &at));) {
        int rc = 0, own = line_of(r, item);
        line = own ? own : line_of_mark(r, line);
        r->name = r->text = STR_NONE;
        if (fy_node_is_mapping(item))
            rc = read_map(r, item, criterion_keys, err);
        else if (!text_of(r, item, &r->text) || !str_utf8(r->text))
            rc = fail(r, line, yaml_name(key), "each must be a text, or a mapping of name and text",
                      err);
        if (rc)
            return rc;
        put_item(r, &text, line);
    }
    r->f->content = arena_str(r->f->arena, buf_view(&text));
    return buf_ok(&text) && str_some(r->f->content) ? 0 : fail_key(r, key, "too large", err);
}

/* ---- the rest ---- */

static int read_description(struct reader *r, struct fy_node *key, struct fy_node *value,
                            struct err *err)
{
    return read_text(r, key, value, LIMIT_OUTCOME_CHARS, &r->f->description, err);
}

static int read_iterations(struct reader *r, struct fy_node *key, struct fy_node *value,
                           struct err *err)
{
    return read_number(r, key, value, 1, OUTCOME_ITERATIONS_MAX, &r->f->max_iterations, err);
}

static int read_closing(struct reader *r, struct fy_node *key, struct fy_node *value,
                        struct err *err)
{
    struct str text;
    bool said = text_of(r, value, &text);
    r->f->closing = said && str_eqz(text, "true");
    return r->f->closing || (said && str_eqz(text, "false"))
               ? 0
               : fail_key(r, key, "must be true or false", err);
}

static const struct key top_keys[] = {{"description", read_description},
                                      {"content", read_content},
                                      {"criteria", read_criteria},
                                      {"checks", read_checks},
                                      {"max_iterations", read_iterations},
                                      {"closing", read_closing},
                                      {0}};

static int fail_syntax(const struct reader *r, const struct yaml *y, struct err *err)
{
    const struct fy_diag_error *e = yaml_why(y);
    return e ? fail(r, e->line + r->f->first_line - 1, STR(""), e->msg, err)
             : fail(r, r->f->first_line, STR(""), "not YAML", err);
}

static int read_yaml(struct reader *r, struct str text, struct err *err)
{
    r->source = text;
    struct yaml y;
    int rc = 0;
    yaml_open(&y, text);
    if (!y.doc)
        rc = fail_syntax(r, &y, err);
    else if (y.root && !fy_node_is_mapping(y.root))
        rc = fail(r, r->f->first_line, STR(""),
                  r->front ? "the front matter must be a mapping of keys"
                           : "must be a mapping with content or criteria",
                  err);
    else if (y.root)
        rc = read_map(r, y.root, top_keys, err);
    yaml_close(&y);
    return rc;
}

static bool is_fence(struct str line)
{
    return str_eqz(str_trim(line), "---") && str_starts(line, STR("-"));
}

/* A first line "---" without a second one is a ruler, not a front matter. */
static int read_markdown(struct reader *r, struct str text, struct err *err)
{
    struct rubric_file *f = r->f;
    struct str rest = text, front = STR("");
    int line = 1;
    f->content = text;
    if (is_fence(str_split(&rest, '\n'))) {
        const char *begin = rest.ptr;
        for (int at = 2; str_some(rest); at++) {
            struct str one = str_split(&rest, '\n');
            if (!is_fence(one))
                continue;
            front = str_n(begin, (size_t)(one.ptr - begin));
            f->content = str_some(rest) ? rest : STR("");
            line = at + 1;
            break;
        }
    }
    f->pieces = ARENA_ARRAY(f->arena, struct rubric_piece, 1);
    if (!f->pieces)
        return fail(r, 0, STR(""), "too large", err);
    add_piece(f, 0, line);
    f->first_line = 2;
    return yaml_is_empty(front) ? 0 : read_yaml(r, front, err);
}

int rubric_file_parse(struct arena *a, const char *path, struct str text, struct rubric_file *out,
                      struct err *err)
{
    struct str name = str_z(path);
    bool yaml = str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml"));
    *out = (struct rubric_file){.arena = a, .path = path, .first_line = 1};
    struct reader r = {.f = out, .front = !yaml};
    int rc;
    if (!str_utf8(text) || str_find_ch(text, '\0') >= 0)
        return fail(&r, 0, STR(""), "must be a text in UTF-8", err);
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_skip(text, 3);
    if (yaml)
        rc = yaml_is_empty(text) ? 0 : read_yaml(&r, text, err);
    else
        rc = read_markdown(&r, text, err);
    if (rc)
        return rc;
    if (str_trim(out->content).len == 0)
        return fail(&r, 0, STR(""),
                    yaml ? "names no criterion: content or criteria must say what is judged"
                         : "names no criterion: the text must say what is judged",
                    err);
    if (str_utf8_len(out->content) > LIMIT_RUBRIC_CHARS)
        return fail(&r, 0, STR(""), "the criteria are too long: at most 262144 characters", err);
    return 0;
}

int rubric_file_read(struct arena *a, const char *path, struct rubric_file *out, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(RUBRIC_FILE_BYTES);
    int rc = fd_read_file(path, &bytes, err);
    if (rc == ERR_TOO_LARGE)
        return err_at(err, ERR_INVALID, "", "%s: too large: at most 1 MiB", path);
    if (rc)
        return rc;
    struct str text = arena_str(a, bytes.len ? buf_view(&bytes) : STR(""));
    if (!str_some(text))
        return err_set(err, ERR_LIMIT, "%s: too large", path);
    return rubric_file_parse(a, path, text, out, err);
}

int rubric_file_line(const struct rubric_file *f, struct str view)
{
    size_t at = (size_t)(view.ptr - f->content.ptr), p = 0;
    while (p + 1 < f->npieces && f->pieces[p + 1].at <= at)
        p++;
    int line = f->pieces[p].line;
    for (size_t i = f->pieces[p].at; i < at && i < f->content.len; i++)
        line += f->content.ptr[i] == '\n';
    return line;
}

void rubric_file_write(struct jw *w, const struct rubric_file *f)
{
    jw_obj(w);
    jw_kz(w, "type", "text");
    jw_kstr(w, "content", f->content);
    if (f->nchecks) {
        jw_key(w, "checks");
        jw_arr(w);
        for (const struct rubric_check *c = f->checks; c < f->checks + f->nchecks; c++) {
            jw_obj(w);
            jw_kstr(w, "name", c->name);
            jw_kstr(w, "run", c->run);
            if (c->has_exit)
                jw_ki64(w, "expect_exit", c->expect_exit);
            if (str_some(c->matches))
                jw_kstr(w, "expect_stdout_matches", c->matches);
            if (c->timeout_seconds)
                jw_ki64(w, "timeout_seconds", c->timeout_seconds);
            jw_obj_end(w);
        }
        jw_arr_end(w);
    }
    if (f->closing)
        jw_kbool(w, "closing", true);
    jw_obj_end(w);
}
