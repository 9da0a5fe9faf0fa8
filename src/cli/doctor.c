#include "cli/doctor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/term.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- checks ---- */

void doctor_init(struct doctor *d)
{
    *d = (struct doctor){.began_wall_us = clock_unix_us(), .began_mono_us = clock_mono_us()};
}

void doctor_fini(struct doctor *d)
{
    for (size_t i = 0; i < d->n; i++)
        buf_fini(&d->checks[i].facts);
    config_fini(&d->config);
}

struct doctor_check *doctor_add(struct doctor *d, const char *name, enum doctor_state state,
                                const char *fmt, ...)
{
    if (d->n == DOCTOR_CHECKS)
        buf_fini(&d->checks[--d->n].facts);
    struct doctor_check *c = &d->checks[d->n++];
    *c = (struct doctor_check){.state = state};
    (void)str_copyz(c->own_name, sizeof c->own_name,
                    str_utf8_take(str_z(name), sizeof c->own_name - 1));
    c->name = c->own_name;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->found, sizeof c->found, fmt, ap);
    va_end(ap);
    c->facts = BUF_INIT(16 * 1024);
    c->writer = jw_to(&c->facts);
    jw_obj(&c->writer);
    return c;
}

void doctor_remedy(struct doctor_check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->remedy, sizeof c->remedy, fmt, ap);
    va_end(ap);
}

void doctor_fact_i64(struct doctor_check *c, const char *key, int64_t v)
{
    jw_ki64(&c->writer, key, v);
}

void doctor_fact_str(struct doctor_check *c, const char *key, const char *v)
{
    jw_kz(&c->writer, key, v);
}

void doctor_fact_bool(struct doctor_check *c, const char *key, bool v)
{
    jw_kbool(&c->writer, key, v);
}

enum doctor_state doctor_worst(const struct doctor *d)
{
    enum doctor_state worst = DOCTOR_OK;
    for (size_t i = 0; i < d->n; i++)
        if (d->checks[i].state > worst)
            worst = d->checks[i].state;
    return worst;
}

static size_t count(const struct doctor *d, enum doctor_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        n += d->checks[i].state == state;
    return n;
}

/* ---- what is printed ---- */

static void put_check(struct buf *out, const struct term *t, const struct doctor_check *c)
{
    static const char *const names[] = {"ok  ", "warn", "FAIL"};
    static const enum term_style styles[] = {TERM_GREEN, TERM_YELLOW, TERM_RED};
    term_style(t, out, styles[c->state]);
    buf_z(out, names[c->state]);
    term_style(t, out, TERM_PLAIN);
    buf_printf(out, "  %-20s ", c->name);
    term_safe_line(out, str_z(c->found));
    buf_ch(out, '\n');
    if (c->remedy[0]) {
        buf_z(out, "                           -> ");
        term_safe_line(out, str_z(c->remedy));
        buf_ch(out, '\n');
    }
}

void doctor_text(const struct doctor *d, bool colour, struct buf *out)
{
    static const char *const verdicts[] = {
        "Everything that was looked at works here.",
        "Agents can work here; see the warnings for what would be better.",
        "Agents cannot work here until what failed is put right."};
    const struct term t = {.colour = colour};
    for (size_t i = 0; i < d->n; i++)
        put_check(out, &t, &d->checks[i]);
    buf_printf(out, "\n%zu ok, %zu warn, %zu FAIL. %s\n", count(d, DOCTOR_OK),
               count(d, DOCTOR_WARN), count(d, DOCTOR_FAIL), verdicts[doctor_worst(d)]);
}

/* The facts' object was opened by doctor_add(); a copy is closed, so that this may run again. */
static void put_facts(struct jw *w, const struct doctor_check *c)
{
    AUTO_BUF struct buf object = BUF_INIT(16 * 1024 + 8);
    buf_str(&object, buf_view(&c->facts));
    buf_ch(&object, '}');
    jw_kraw(w, "facts", buf_view(&object));
}

void doctor_json(const struct doctor *d, struct buf *out)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_ki64(&w, "format", 1);
    jw_kz(&w, "version", OSTLER_VERSION);
    jw_ktime(&w, "at", d->began_wall_us);
    jw_kz(&w, "status", names[doctor_worst(d)]);
    jw_key(&w, "checks");
    jw_arr(&w);
    for (size_t i = 0; i < d->n; i++) {
        const struct doctor_check *c = &d->checks[i];
        jw_obj(&w);
        jw_kz(&w, "name", c->name);
        jw_kz(&w, "status", names[c->state]);
        jw_kz(&w, "found", c->found);
        jw_kz(&w, "remedy", c->remedy[0] ? c->remedy : NULL);
        put_facts(&w, c);
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    jw_done(&w);
    buf_ch(out, '\n');
}

void doctor_url(char *out, size_t cap, const char *url)
{
    struct str rest = str_z(url);
    ptrdiff_t scheme = str_find(rest, STR("://"));
    struct str head = scheme < 0 ? STR_NONE : str_take(rest, (size_t)scheme + 3);
    rest = str_skip(rest, head.len);
    struct str host = str_take(rest, strcspn(rest.ptr, "/?#"));
    struct str path = str_skip(rest, host.len);
    path = str_take(path, strcspn(path.ptr, "?#"));
    for (ptrdiff_t at; (at = str_find_ch(host, '@')) >= 0;)
        host = str_skip(host, (size_t)at + 1);
    snprintf(out, cap, STR_FMT STR_FMT STR_FMT, STR_ARG(head), STR_ARG(host), STR_ARG(path));
}

/* ---- the command ---- */

/* A configuration that cannot be used is one finding among others: the rest is looked at with the
 * defaults. */
static bool load(struct doctor *d, const struct config_flags *flags)
{
    struct err err = {0};
    const char *file = flags->file ? flags->file : config_env("OSTLER_CONFIG");
    if (config_load(&d->config, flags, &err) == 0) {
        struct doctor_check *c = doctor_add(d, "config", DOCTOR_OK, "%s%s", file ? file : "",
                                            file ? "" : "no file is named; defaults");
        doctor_fact_str(c, "file", file);
        return true;
    }
    struct doctor_check *c = doctor_add(d, "config", DOCTOR_FAIL, "%s", err.msg);
    doctor_fact_str(c, "file", file);
    doctor_remedy(c, "`ostler config check` shows every mistake; what follows was looked at with "
                     "the defaults");
    config_fini(&d->config);
    struct config_flags bare = {.data = flags->data};
    unsetenv("OSTLER_CONFIG");
    unsetenv("OSTLER_LISTEN");
    return config_load(&d->config, &bare, &err) == 0;
}

static void examine(struct doctor *d)
{
    doctor_data(d);
    doctor_host(d);
    doctor_sandbox(d);
    doctor_model(d);
    doctor_clock(d);
}

static const char notes[] =
    "Each line is ok, warn or FAIL; below it stands what to do. A sandbox is really started and a\n"
    "command run in it, as the user who asks: ask as the user who runs the server. Keys are never\n"
    "shown. Nothing is changed; what is tried is tried in a directory that is removed again.\n"
    "docs/operations.md lists the checks and the form of --json.\n"
    "\n"
    "Examples:\n"
    "  ostler doctor\n"
    "  ostler doctor --config /etc/ostler/ostler.yaml --probe\n"
    "  ostler doctor --json | jq '.checks[] | select(.status != \"ok\")'\n"
    "\n"
    "Exit codes: 0 ok or warnings, 1 something fails that agents need, 2 usage\n";

static int parse(struct config_flags *flags, struct doctor *d, bool *as_json, int argc, char **argv,
                 int *code)
{
    const struct option_spec options[] = {
        {"json", 0, OPTION_FLAG, as_json, NULL, "one JSON object", 0, 0},
        {"data", 0, OPTION_TEXT, &flags->data, "DIR", "data directory [OSTLER_DATA]", 0, 0},
        {"config", 0, OPTION_TEXT, &flags->file, "FILE", "ostler.yaml [OSTLER_CONFIG]", 0, 0},
        {"probe", 0, OPTION_FLAG, &d->probe, NULL, "connect to the model providers", 0, 0},
        {"deep", 0, OPTION_FLAG, &d->deep, NULL, "read the whole database for damage", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "doctor",
        .usage = "ostler doctor [--json] [--data DIR] [--config FILE] [--probe] [--deep]",
        .summary = "Looks at what the server needs of this host and says what to do about what is\n"
                   "missing.",
        .notes = notes,
        .options = options};
    struct option_words words;
    return options_begin(&spec, argc, argv, &words, code) ? 0 : -1;
}

int cmd_doctor(int argc, char **argv)
{
    struct config_flags flags = {0};
    bool as_json = false;
    int code = CLI_OK;
    AUTO_FREE struct doctor *d = mem_zalloc(sizeof *d);
    doctor_init(d);
    if (parse(&flags, d, &as_json, argc, argv, &code))
        return code;
    if (load(d, &flags))
        examine(d);
    AUTO_BUF struct buf out = BUF_INIT(1024 * 1024);
    if (as_json)
        doctor_json(d, &out);
    else
        doctor_text(d, term_for(STDOUT_FILENO).colour, &out);
    struct err err;
    code = doctor_worst(d) == DOCTOR_FAIL ? CLI_FAILED : CLI_OK;
    if (fd_write_all(STDOUT_FILENO, buf_view(&out), &err))
        code = cli_fail(CLI_FAILED, "doctor", "%s", err.msg);
    doctor_fini(d);
    return code;
}
