#include "engine/check.h"

#include "base/limits.h"
#include "json/writer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>

enum {
    KEPT_BYTES = 40 * 1024, /* of each stream */
    EVIDENCE = 2000,
    MATCH_STEPS = 1000 * 1000,
};

/* In single quotes of the shell. */
static void put_quoted(struct buf *b, struct str s)
{
    buf_ch(b, '\'');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\'')
            buf_z(b, "'\\''");
        else
            buf_ch(b, s.ptr[i]);
    }
    buf_ch(b, '\'');
}

struct str check_input(struct arena *a, const struct json *check, const char mark[CHECK_MARK])
{
    AUTO_BUF struct buf command = BUF_INIT(1 << 20);
    AUTO_BUF struct buf b = BUF_INIT(2 << 20);
    int64_t seconds = LIMIT_CHECK_SECONDS;
    (void)json_i64(json_get(check, "timeout_seconds"), &seconds);
    buf_z(&command, "bash -c ");
    put_quoted(&command, json_get_str(check, "run"));
    buf_printf(&command,
               " >/tmp/%s.1 2>/tmp/%s.2 </dev/null\n"
               "printf '%%s:%%d\\n' %s $?\n"
               "tail -c %d /tmp/%s.1\nprintf '\\n%%s\\n' %s\ntail -c %d /tmp/%s.2\n",
               mark, mark, mark, KEPT_BYTES, mark, mark, KEPT_BYTES, mark);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "command", buf_view(&command));
    jw_ki64(&w, "timeout_ms", seconds * 1000);
    jw_obj_end(&w);
    return buf_ok(&b) && buf_ok(&command) ? arena_str(a, buf_view(&b)) : STR_NONE;
}

/* ---- patterns ---- */

static pcre2_code *compile(struct str pattern, struct err *err)
{
    int code = 0;
    size_t at = 0;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)(pattern.ptr ? pattern.ptr : ""), pattern.len,
                      PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    char why[128];
    if (!re) {
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        err_set(err, ERR_INVALID, "%s at character %zu", why, at + 1);
    }
    return re;
}

int check_pattern(struct str pattern, struct err *err)
{
    pcre2_code *re = compile(pattern, err);
    if (!re)
        return err->code;
    pcre2_code_free(re);
    return 0;
}

/* 1, 0, or a negative code of the library: it did not come to an end. */
static int matches(struct str pattern, struct str text, struct err *err)
{
    pcre2_code *re = compile(pattern, err);
    if (!re)
        return PCRE2_ERROR_INTERNAL;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(context, MATCH_STEPS);
    int rc = pcre2_match(re, (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, 0, 0, data, context);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return rc >= 0 ? 1 : rc == PCRE2_ERROR_NOMATCH ? 0 : rc;
}

/* ---- the outcome ---- */

struct output {
    int64_t code;
    struct str out, err;
};

static bool read_output(struct str text, const char *mark, struct output *o)
{
    char head[CHECK_MARK + 1], middle[CHECK_MARK + 1];
    snprintf(head, sizeof head, "%s:", mark);
    snprintf(middle, sizeof middle, "\n%s", mark); /* without stderr it is the last thing */
    ptrdiff_t at = str_find(text, str_z(head));
    if (at < 0)
        return false;
    struct str rest = str_skip(text, (size_t)at + strlen(head));
    struct str code = str_split(&rest, '\n');
    if (!str_some(rest) || !str_i64(code, &o->code))
        return false;
    at = str_find(rest, str_z(middle));
    o->out = at < 0 ? rest : str_take(rest, (size_t)at);
    o->err = at < 0 ? STR("") : str_skip(rest, (size_t)at + strlen(middle));
    return true;
}

static struct str tail_of(struct str s)
{
    s = str_trim(s);
    return s.len > EVIDENCE ? str_skip(s, s.len - EVIDENCE) : s;
}

static struct str evidence_of(struct arena *a, const struct json *check, const struct output *o)
{
    struct str out = tail_of(o->out), err = tail_of(o->err);
    struct str run = str_utf8_take(json_get_str(check, "run"), 400);
    return arena_printf(a, "$ " STR_FMT "\n" STR_FMT "%s" STR_FMT "\nexit code %lld", STR_ARG(run),
                        STR_ARG(out), err.len && out.len ? "\n" : "", STR_ARG(err),
                        (long long)o->code);
}

static struct criterion failed(struct criterion c, struct str why)
{
    c.verdict = CRITERION_NOT_MET;
    c.comment = why;
    return c;
}

struct criterion check_judge(struct arena *a, const struct json *check, const char mark[CHECK_MARK],
                             const struct tool_outcome *o)
{
    struct criterion c = {.name = arena_str(a, json_get_str(check, "name")),
                          .verdict = CRITERION_MET,
                          .comment = STR("the check passed")};
    const struct json *pattern = json_get(check, "expect_stdout_matches");
    struct output output = {.code = -1};
    int64_t expect = 0;
    struct err err;
    (void)json_i64(json_get(check, "expect_exit"), &expect);
    if (!read_output(o->content, mark, &output)) {
        c.evidence = arena_str(a, tail_of(o->content));
        return failed(c, arena_printf(a, "the check did not come to its end%s%s",
                                      o->failure_reason ? ": " : "",
                                      o->failure_reason ? o->failure_reason : ""));
    }
    c.evidence = evidence_of(a, check, &output);
    if (output.code != expect)
        return failed(c, arena_printf(a, "exit code %lld, expected %lld", (long long)output.code,
                                      (long long)expect));
    int matched = json_is(pattern, JSON_STRING) ? matches(pattern->str, output.out, &err) : 1;
    if (matched < 0)
        return failed(c, STR("the pattern took too long on this output"));
    if (!matched)
        return failed(c, STR("the output does not match the pattern"));
    return c;
}
