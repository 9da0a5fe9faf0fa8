/* The proof behind the demo: read back from the server, not from what was displayed. */
#include "cli/demo.h"

#include "cli/proc.h"

#include <stdio.h>

enum { LEVELS = 4 };

static int fail(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s", what);
}

static size_t count(struct str text, struct str part)
{
    size_t n = 0;
    for (ptrdiff_t at; (at = str_find(text, part)) >= 0; n++)
        text = str_skip(text, (size_t)at + part.len);
    return n;
}

/* The long command prints a line before each of its four steps: each must be there once. */
static int check_long_call(const struct json *result, struct err *err)
{
    struct str text = json_get_str(json_at(json_get(result, "content"), 0), "text");
    if (json_is_true(json_get(result, "is_error")) || count(text, STR("all levels passed")) != 1)
        return fail(err, "the command that the kill hit did not end well");
    for (int level = 0; level < LEVELS; level++) {
        char line[64];
        snprintf(line, sizeof line, "testing with -O%d\n", level);
        if (count(text, str_z(line)) != 1)
            return fail(err, "a step of the command that the kill hit did not run exactly once");
    }
    return 0;
}

static size_t answers_to(const struct json *events, struct str id, const struct json **last)
{
    size_t n = 0;
    json_for_each (e, events) {
        if (!str_eqz(json_get_str(e, "type"), "agent.tool_result") ||
            !str_eq(json_get_str(e, "tool_use_id"), id))
            continue;
        *last = e;
        n++;
    }
    return n;
}

static int check_calls(struct demo *d, const struct json *events, struct err *err)
{
    bool hit = false;
    json_for_each (e, events) {
        struct str type = json_get_str(e, "type"), id = json_get_str(e, "id");
        d->logged++;
        d->answers += str_eqz(type, "agent.tool_result");
        if (!str_eqz(type, "agent.tool_use"))
            continue;
        d->calls++;
        const struct json *result = NULL;
        if (answers_to(events, id, &result) != 1)
            return fail(err, "a tool call does not have exactly one result");
        if (!str_eqz(id, d->call))
            continue;
        hit = true;
        int rc = check_long_call(result, err);
        if (rc)
            return rc;
    }
    if (!hit || d->calls != d->answers)
        return fail(err, "the log does not hold the tool calls that were shown");
    if (d->shown != d->logged)
        return fail(err, "the events that were shown are not those of the log");
    return 0;
}

int demo_check(struct demo *d, struct err *err)
{
    struct job *j = &d->job;
    if (j->end != JOB_DONE)
        return fail(err, "the turn did not end by itself");
    if (!d->killed_pid || d->answered_before || j->restarts != 1)
        return fail(err, "the server was not killed in the middle of the tool call");
    if (!j->patch_bytes || !j->patch_applies)
        return fail(err, "there is no patch that applies");
    if (!j->outputs.files)
        return fail(err, "the agent's report did not come back");
    AUTO_ARENA struct arena a;
    arena_init(&a, 256 * 1024 * 1024);
    char path[256];
    snprintf(path, sizeof path, "/v1/sessions/%s/events?limit=1000&order=asc", j->session);
    const struct json *doc;
    int rc = job_json(j, "GET", path, STR_NONE, &a, &doc, err);
    rc = rc ? rc : check_calls(d, json_get(doc, "data"), err);
    if (rc)
        return rc;
    /* For real, not only with --check: what comes out must be what the agent left. */
    const char *args[] = {"apply", "--index", d->patch, NULL};
    return git_run(d->repo, args, NULL, err);
}
