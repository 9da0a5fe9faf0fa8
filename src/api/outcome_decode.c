#include "api/outcome_decode.h"

#include "api/compact.h"
#include "base/clock.h"
#include "base/limits.h"
#include "core/outcome.h"
#include "engine/check.h"
#include "json/decode.h"

/* ---- checks ---- */

struct check_in {
    struct str name, run;
    const struct json *exit, *pattern, *seconds;
};

static const struct json_field check_fields[] = {
    JSON_FIELD_STR(struct check_in, name, "name", .required = true, .min = 1,
                   .max = LIMIT_CHECK_NAME_CHARS),
    JSON_FIELD_STR(struct check_in, run, "run", .required = true, .min = 1,
                   .max = LIMIT_CHECK_RUN_CHARS),
    JSON_FIELD_ANY(struct check_in, exit, "expect_exit", .type = JSON_NUMBER, .nullable = true),
    JSON_FIELD_ANY(struct check_in, pattern, "expect_stdout_matches", .type = JSON_STRING,
                   .nullable = true, .min = 1, .max = LIMIT_CHECK_PATTERN_CHARS),
    JSON_FIELD_ANY(struct check_in, seconds, "timeout_seconds", .type = JSON_NUMBER,
                   .nullable = true),
    JSON_FIELD_END};

static int check_number(const struct json *v, int64_t min, int64_t max, const char *at,
                        const char *key, struct err *err)
{
    int64_t n;
    if (!json_is(v, JSON_NUMBER) || (json_i64(v, &n) && n >= min && n <= max))
        return 0;
    return json_fail(err, at, key, "Input should be a whole number from %lld to %lld",
                     (long long)min, (long long)max);
}

static bool has_nul(struct str s)
{
    return s.len && memchr(s.ptr, 0, s.len);
}

static int check_check(const struct json *v, const char *at, struct check_in *in, struct err *err)
{
    struct err why;
    int rc = json_decode(v, check_fields, in, sizeof *in, at, err);
    if (!rc && str_trim(in->name).len == 0)
        rc = json_fail(err, at, "name", "Input should have more than blanks");
    if (!rc && has_nul(in->run))
        rc = json_fail(err, at, "run", "A command holds no NUL");
    if (!rc)
        rc = check_number(in->exit, 0, 255, at, "expect_exit", err);
    if (!rc)
        rc = check_number(in->seconds, 1, LIMIT_CHECK_SECONDS_MAX, at, "timeout_seconds", err);
    if (!rc && json_is(in->pattern, JSON_STRING) && check_pattern(in->pattern->str, &why))
        rc = json_fail(err, at, "expect_stdout_matches", "Input should be a regular expression: %s",
                       why.msg);
    return rc;
}

static int check_names(const struct json *checks, const struct json *one, size_t i, const char *at,
                       struct err *err)
{
    size_t before = 0;
    struct str name = json_get_str(one, "name");
    json_for_each (v, checks) {
        if (v == one)
            return 0;
        if (str_eq(json_get_str(v, "name"), name)) {
            char where[ERR_AT_MAX];
            json_pointer_index(where, at, i);
            return json_fail(err, where, "name", "Check %zu has this name already", before);
        }
        before++;
    }
    return 0;
}

static int check_checks(const struct json *checks, const char *rubric_at, struct err *err)
{
    char at[ERR_AT_MAX], where[ERR_AT_MAX];
    size_t i = 0;
    json_pointer_key(at, rubric_at, STR("checks"));
    json_for_each (v, checks) {
        struct check_in in;
        json_pointer_index(where, at, i);
        int rc = check_check(v, where, &in, err);
        if (!rc)
            rc = check_names(checks, v, i++, at, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- the rubric ---- */

struct rubric_in {
    const struct json *type, *checks;
    struct str content, file_id;
    bool closing;
};

#define RUBRIC_FIELDS(...)                                                                         \
    {                                                                                              \
        JSON_FIELD_ANY(struct rubric_in, type, "type"), __VA_ARGS__,                               \
            JSON_FIELD_ANY(struct rubric_in, checks, "checks", .type = JSON_ARRAY,                 \
                           .nullable = true, .max = LIMIT_CHECKS),                                 \
            JSON_FIELD_BOOL(struct rubric_in, closing, "closing", .nullable = true),               \
            JSON_FIELD_END                                                                         \
    }

static const struct json_field text_fields[] = RUBRIC_FIELDS(JSON_FIELD_STR(
    struct rubric_in, content, "content", .required = true, .min = 1, .max = LIMIT_RUBRIC_CHARS));
static const struct json_field file_fields[] = RUBRIC_FIELDS(
    JSON_FIELD_STR(struct rubric_in, file_id, "file_id", .required = true, .min = 1, .max = 64));

static int check_text(struct str text, const char *at, const char *key, struct err *err)
{
    if (str_trim(text).len == 0)
        return json_fail(err, at, key, "A rubric has more than blanks");
    return 0;
}

static int decode_rubric(const struct json *v, const char *at, struct rubric_in *in,
                         struct err *err)
{
    struct str type = json_get_str(v, "type");
    bool file = str_eqz(type, "file");
    if (!file && !str_eqz(type, "text"))
        return json_fail(err, at, "type",
                         json_get(v, "type") ? "Input should be 'text' or 'file'"
                                             : "Field required");
    int rc = json_decode(v, file ? file_fields : text_fields, in, sizeof *in, at, err);
    if (!rc && !file)
        rc = check_text(in->content, at, "content", err);
    return rc ? rc : check_checks(in->checks, at, err);
}

/* ---- the event ---- */

struct define_in {
    const struct json *type, *rubric, *iterations;
    struct str description;
};

static const struct json_field define_fields[] = {
    JSON_FIELD_ANY(struct define_in, type, "type"),
    JSON_FIELD_STR(struct define_in, description, "description", .required = true, .min = 1,
                   .max = LIMIT_OUTCOME_CHARS),
    JSON_FIELD_ANY(struct define_in, rubric, "rubric", .type = JSON_OBJECT, .required = true),
    JSON_FIELD_ANY(struct define_in, iterations, "max_iterations", .type = JSON_NUMBER,
                   .nullable = true),
    JSON_FIELD_END};

static void write_check(struct jw *w, const struct json *check)
{
    static const char *const keys[] = {"name", "run", "expect_exit", "expect_stdout_matches",
                                       "timeout_seconds"};
    jw_obj(w);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const struct json *v = json_get(check, keys[i]);
        if (v && v->type != JSON_NULL) {
            jw_key(w, keys[i]);
            compact_value(w, v->raw);
        }
    }
    jw_obj_end(w);
}

/* `text` absent: the file's name stands in its place. */
static void write_rubric(struct jw *w, const struct json *rubric, struct str text)
{
    const struct json *checks = json_get(rubric, "checks");
    jw_obj(w);
    jw_kz(w, "type", str_some(text) ? "text" : "file");
    if (str_some(text))
        jw_kstr(w, "content", text);
    else
        jw_kstr(w, "file_id", json_get_str(rubric, "file_id"));
    if (json_is(checks, JSON_ARRAY) && checks->count) {
        jw_key(w, "checks");
        jw_arr(w);
        json_for_each (check, checks)
            write_check(w, check);
        jw_arr_end(w);
    }
    if (json_is_true(json_get(rubric, "closing")))
        jw_kbool(w, "closing", true);
    jw_obj_end(w);
}

/* It counts as processed when it is received. */
static int write_body(struct arena *a, struct sent_event *e, struct str text, struct err *err)
{
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 8ul * LIMIT_RUBRIC_CHARS);
    struct jw w = jw_to(&b);
    const struct json *v = e->outcome.definition;
    int64_t most = OUTCOME_ITERATIONS;
    (void)json_i64(json_get(v, "max_iterations"), &most);
    jw_obj(&w);
    jw_kstr(&w, "id", id_str(&e->event.id));
    jw_kz(&w, "type", event_name(e->event.type));
    jw_ktime(&w, "processed_at", e->outcome.received_us);
    jw_kstr(&w, "outcome_id", id_str(&e->outcome.id));
    jw_kstr(&w, "description", json_get_str(v, "description"));
    jw_key(&w, "rubric");
    write_rubric(&w, json_get(v, "rubric"), text);
    jw_ki64(&w, "max_iterations", most);
    jw_obj_end(&w);
    return compact_keep(a, &b, &e->event.body, err);
}

int outcome_decode(struct arena *a, const struct json *v, const char *at, struct sent_event *out,
                   struct err *err)
{
    struct define_in in;
    struct rubric_in rubric;
    char where[ERR_AT_MAX];
    int rc = json_decode(v, define_fields, &in, sizeof in, at, err);
    if (!rc)
        rc = check_number(in.iterations, 1, OUTCOME_ITERATIONS_MAX, at, "max_iterations", err);
    if (!rc && str_trim(in.description).len == 0)
        rc = json_fail(err, at, "description", "Input should have more than blanks");
    if (rc)
        return rc;
    json_pointer_key(where, at, STR("rubric"));
    rc = decode_rubric(in.rubric, where, &rubric, err);
    if (rc)
        return rc;
    out->event.type = EVENT_USER_DEFINE_OUTCOME;
    out->event.id = id_new("sevt");
    out->outcome.id = id_new("outc");
    out->outcome.received_us = clock_unix_us();
    out->outcome.definition = v;
    out->outcome.rubric_file = rubric.file_id;
    return write_body(a, out, rubric.content, err);
}

int outcome_put_rubric(struct arena *a, struct sent_event *e, struct str text, const char *at,
                       struct err *err)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("rubric"));
    if (!str_utf8(text))
        return json_fail(err, where, "file_id", "File '" STR_FMT "' is no text in UTF-8",
                         STR_ARG(e->outcome.rubric_file));
    if (str_utf8_len(text) > LIMIT_RUBRIC_CHARS)
        return json_fail(err, where, "file_id",
                         "File '" STR_FMT "' has %zu characters; a rubric has at most %d",
                         STR_ARG(e->outcome.rubric_file), str_utf8_len(text), LIMIT_RUBRIC_CHARS);
    int rc = check_text(text, where, "file_id", err);
    return rc ? rc : write_body(a, e, text, err);
}
