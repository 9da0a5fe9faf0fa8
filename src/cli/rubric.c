/* `ostler rubric check`: how a rubric is read, and what in it cannot be judged. */
#include "base/fd.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/rubric_file.h"
#include "cli/term.h"
#include "core/outcome.h"
#include "core/rubric.h"
#include "core/rubric_lint.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static const char notes[] =
    "A rubric is what `ostler run --rubric FILE` has the agent's work graded by. A name in .yaml "
    "or\n"
    ".yml is YAML:\n"
    "\n"
    "  description: Port the parser to C17        # the task, where the command line names none\n"
    "  criteria:                                  # or content: a text, in Markdown\n"
    "    - README.md has a section `Building`\n"
    "    - name: no leaks\n"
    "      text: The log of valgrind in /mnt/session/outputs/valgrind.txt shows 0 errors\n"
    "  checks:                                    # run on a copy before anything is graded\n"
    "    - name: tests\n"
    "      run: make test\n"
    "      expect_exit: 0                         # what it is without it\n"
    "      expect_stdout_matches: '^ok$'          # a regular expression, line by line\n"
    "      timeout_seconds: 300                   # 120 without it\n"
    "  max_iterations: 5                          # 3 without it\n"
    "  closing: true                              # grade what the last turn leaves, too\n"
    "\n"
    "Any other file is the content itself: each list item is a criterion, a nested one too, or "
    "each\n"
    "paragraph where there is no list. The other keys may stand above it, between two lines of "
    "---.\n"
    "\n"
    "It looks at English words, and rather says too little. --json prints one object.\n"
    "\n"
    "Examples:\n"
    "  ostler rubric check rubric.yaml\n"
    "  ostler rubric check rubric.md --json | jq .findings\n"
    "\n"
    "Exit codes: 0 nothing was found, 1 something was, 2 usage, or the file is no rubric\n";

struct reading {
    struct arena arena;
    struct rubric_file file;
    struct str *criteria;
    size_t ncriteria;
    struct rubric_finding *findings;
    size_t nfindings;
    struct term term;
};

static int read_rubric(struct reading *r, const char *path, struct err *err)
{
    int rc = rubric_file_read(&r->arena, path, &r->file, err);
    if (rc == 0)
        rc = rubric_criteria(&r->arena, r->file.content, &r->criteria, &r->ncriteria, err);
    if (rc == 0)
        rc = rubric_lint(&r->arena, r->file.content, r->criteria, r->ncriteria, &r->findings,
                         &r->nfindings, err);
    return rc;
}

/* ---- for people ---- */

static const char *const problem_words[] = {"vague", "nothing to look at", "two in one", "empty",
                                            "said twice"};

static void put_finding(const struct reading *r, struct buf *out, const struct rubric_finding *f)
{
    struct str words = str_utf8_take(f->words, 100);
    buf_z(out, "     ");
    term_style(&r->term, out, TERM_YELLOW);
    buf_printf(out, "line %d, %s", rubric_file_line(&r->file, f->words), problem_words[f->problem]);
    term_style(&r->term, out, TERM_PLAIN);
    if (f->problem == RUBRIC_DUPLICATE) {
        buf_printf(out, ": the same as %zu", f->other + 1);
    } else if (f->problem == RUBRIC_VAGUE || f->problem == RUBRIC_TWO_IN_ONE) {
        buf_z(out, ": \"");
        term_safe_line(out, words);
        buf_z(out, words.len < f->words.len ? "...\"" : "\"");
    }
    buf_printf(out, ": %s\n", f->advice);
}

static void put_findings(const struct reading *r, struct buf *out, size_t criterion)
{
    for (size_t i = 0; i < r->nfindings; i++)
        if (r->findings[i].criterion == criterion)
            put_finding(r, out, &r->findings[i]);
}

static void put_text(struct buf *out, struct str text, const char *below)
{
    const char *lead = "";
    for (text = str_trim(text); str_some(text); lead = below) {
        buf_z(out, lead);
        term_safe_line(out, str_trim(str_split(&text, '\n')));
        buf_ch(out, '\n');
    }
}

static void put_check(const struct reading *r, struct buf *out, const struct rubric_check *c)
{
    buf_z(out, "     ");
    term_style(&r->term, out, TERM_BOLD);
    term_safe_line(out, c->name);
    term_style(&r->term, out, TERM_PLAIN);
    buf_z(out, "\n       $ ");
    put_text(out, c->run, "         ");
    buf_printf(out, "       expects exit code %" PRId64, c->has_exit ? c->expect_exit : (int64_t)0);
    if (str_some(c->matches)) {
        buf_z(out, " and an output that matches /");
        term_safe_line(out, c->matches);
        buf_ch(out, '/');
    }
    buf_printf(out, ", within %" PRId64 " s\n",
               c->timeout_seconds ? c->timeout_seconds : (int64_t)LIMIT_CHECK_SECONDS);
}

static void put_head(const struct reading *r, struct buf *out)
{
    const struct rubric_file *f = &r->file;
    int64_t most = f->max_iterations ? f->max_iterations : (int64_t)OUTCOME_ITERATIONS;
    term_safe_line(out, str_z(f->path));
    buf_printf(out, ": %zu criteri%s, %zu check%s, at most %" PRId64 " iteration%s%s\n",
               r->ncriteria, r->ncriteria == 1 ? "on" : "a", f->nchecks, f->nchecks == 1 ? "" : "s",
               most, most == 1 ? "" : "s",
               f->closing ? ", and what the last turn leaves is graded, too" : "");
    if (str_some(f->description)) {
        buf_z(out, "  task: ");
        put_text(out, f->description, "        ");
    }
}

static void put_reading(const struct reading *r, struct buf *out)
{
    put_head(r, out);
    if (r->file.nchecks)
        buf_z(out, "\nChecks, which are run first; while one fails, nothing else is graded:\n");
    for (size_t i = 0; i < r->file.nchecks; i++)
        put_check(r, out, &r->file.checks[i]);
    buf_z(out, "\nCriteria, as a grader gets them:\n");
    for (size_t i = 0; i < r->ncriteria; i++) {
        buf_printf(out, "%4zu ", i + 1);
        put_text(out, r->criteria[i], "     ");
        put_findings(r, out, i);
    }
    put_findings(r, out, RUBRIC_NO_CRITERION);
    if (r->ncriteria == RUBRIC_CRITERIA_MAX)
        buf_z(out, "     what follows belongs to the last one: there are 200 criteria at most\n");
    buf_printf(out, "\n%zu finding%s\n", r->nfindings, r->nfindings == 1 ? "" : "s");
}

/* ---- for programs ---- */

static void json_findings(const struct reading *r, struct jw *w)
{
    jw_key(w, "findings");
    jw_arr(w);
    for (const struct rubric_finding *f = r->findings; f < r->findings + r->nfindings; f++) {
        jw_obj(w);
        if (f->criterion == RUBRIC_NO_CRITERION)
            jw_knull(w, "criterion");
        else
            jw_ki64(w, "criterion", (int64_t)f->criterion + 1);
        jw_ki64(w, "line", rubric_file_line(&r->file, f->words));
        jw_kz(w, "problem", rubric_problems[f->problem]);
        jw_kstr(w, "words", f->words);
        if (f->problem == RUBRIC_DUPLICATE)
            jw_ki64(w, "duplicate_of", (int64_t)f->other + 1);
        jw_kz(w, "advice", f->advice);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void json_reading(const struct reading *r, struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "type", "ostler.rubric_check");
    jw_kz(&w, "file", r->file.path);
    jw_kstr(&w, "description", r->file.description);
    if (r->file.max_iterations)
        jw_ki64(&w, "max_iterations", r->file.max_iterations);
    else
        jw_knull(&w, "max_iterations");
    jw_key(&w, "criteria");
    jw_arr(&w);
    for (size_t i = 0; i < r->ncriteria; i++) {
        jw_obj(&w);
        jw_ki64(&w, "number", (int64_t)i + 1);
        jw_ki64(&w, "line", rubric_file_line(&r->file, r->criteria[i]));
        jw_kstr(&w, "text", r->criteria[i]);
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    jw_key(&w, "rubric"); /* as it is sent */
    rubric_file_write(&w, &r->file);
    json_findings(r, &w);
    jw_obj_end(&w);
    buf_ch(out, '\n');
}

static int check(const char *path, bool as_json)
{
    struct reading r = {.term = term_for(STDOUT_FILENO)};
    AUTO_BUF struct buf out = BUF_INIT(64 * 1024 * 1024);
    struct err err;
    int code;
    arena_init(&r.arena, 64 * 1024 * 1024);
    if (read_rubric(&r, path, &err)) {
        code = cli_fail(CLI_USAGE, "rubric", "%s", err.msg);
    } else {
        if (as_json)
            json_reading(&r, &out);
        else
            put_reading(&r, &out);
        code = r.nfindings ? CLI_FAILED : CLI_OK;
        if (fd_write_all(STDOUT_FILENO, buf_view(&out), &err))
            code = cli_fail(CLI_FAILED, "rubric", "%s", err.msg);
    }
    arena_fini(&r.arena);
    return code;
}

int cmd_rubric(int argc, char **argv)
{
    static const char *const choices[] = {"check", NULL};
    bool as_json = false;
    const struct option_spec options[] = {
        {"json", 0, OPTION_FLAG, &as_json, NULL, "one JSON object", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "rubric",
        .usage = "ostler rubric check FILE [--json]",
        .summary =
            "Shows how a rubric is read, criterion by criterion, and names those that cannot\n"
            "be judged: vague words, nothing to look at, two in one, empties, duplicates.",
        .notes = notes,
        .options = options,
        .min_words = 2,
        .max_words = 2,
        .word_name = "check FILE",
        .choices = choices,
        .files = true};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (strcmp(words.word[0], "check") != 0)
        return cli_fail(CLI_USAGE, "rubric", "unknown word '%s'; usage: %s", words.word[0],
                        spec.usage);
    return check(words.word[1], as_json);
}
