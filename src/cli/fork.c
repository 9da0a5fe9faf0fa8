/* ostler fork, ostler rewind: a session that goes on from an earlier point of another one. */
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/term.h"
#include "json/writer.h"

#include <stdio.h>
#include <unistd.h>

/* An interrupt is taken in at once; what takes longer is a server that does not answer. */
enum { IDLE_LOOKS = 100, IDLE_PAUSE_MS = 100 };

struct branch {
    const char *title, *agent;
    bool json;
    struct connect_flags flags;
    struct connect c;
};

static int write_body(const struct branch *b, const char *event, struct buf *out, struct err *err)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    if (event)
        jw_kz(&w, "event_id", event);
    if (b->title)
        jw_kz(&w, "title", b->title);
    if (b->agent)
        jw_kz(&w, "agent", b->agent);
    jw_obj_end(&w);
    if (!str_utf8(buf_view(out)))
        return err_set(err, ERR_INVALID, "the event, title and agent must be UTF-8");
    return buf_ok(out) ? 0 : err_set(err, ERR_TOO_LARGE, "the title is too long");
}

/* The new session is said at once: whatever fails later, it is there. */
static int fork_session(struct branch *b, const char *session, const char *event,
                        const struct json **out, struct err *err)
{
    AUTO_BUF struct buf body = BUF_INIT(64 * 1024), said = BUF_INIT(SIZE_MAX / 4);
    char path[160];
    snprintf(path, sizeof path, "/v1/sessions/%s/fork", session);
    int rc = write_body(b, event, &body, err);
    if (rc == 0)
        rc = client_json(&b->c.client, "POST", path, buf_view(&body), &b->c.arena, out, err);
    if (rc)
        return rc;
    struct str id = json_get_str(*out, "id");
    buf_str(&said, b->json ? (*out)->raw : id);
    buf_ch(&said, '\n');
    return fd_write_all(STDOUT_FILENO, buf_view(&said), err);
}

/* ---- rewind ---- */

struct pause {
    struct loop_timer timer;
    struct loop *loop;
    bool over;
};

static void pause_closed(struct loop_timer *t)
{
    struct pause *p = CONTAINER_OF(t, struct pause, timer);
    p->over = true;
    loop_stop(p->loop);
}

static void pause_fired(struct loop_timer *t)
{
    loop_timer_close(t, pause_closed);
}

static void pause_ms(struct loop *l, int64_t ms)
{
    struct pause p = {.loop = l};
    loop_timer_init(l, &p.timer);
    loop_timer_start(&p.timer, ms, pause_fired);
    while (!p.over)
        loop_run(l);
}

static int look(struct branch *b, const char *session, const struct json **out, struct err *err)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/sessions/%s", session);
    return client_json(&b->c.client, "GET", path, STR_NONE, &b->c.arena, out, err);
}

static bool works(const struct json *session)
{
    struct str status = json_get_str(session, "status");
    return str_eqz(status, "running") || str_eqz(status, "rescheduling");
}

static int interrupt(struct branch *b, const char *session, struct err *err)
{
    const struct json *ignored;
    char path[128];
    snprintf(path, sizeof path, "/v1/sessions/%s/events", session);
    return client_json(&b->c.client, "POST", path,
                       STR("{\"events\":[{\"type\":\"user.interrupt\"}]}"), &b->c.arena, &ignored,
                       err);
}

static int come_to_rest(struct branch *b, const char *session, bool *interrupted, struct err *err)
{
    const struct json *now;
    *interrupted = false;
    int rc = look(b, session, &now, err);
    if (rc == 0 && works(now)) {
        rc = interrupt(b, session, err);
        *interrupted = rc == 0;
    }
    for (int i = 0; rc == 0 && works(now); i++) {
        if (i == IDLE_LOOKS)
            return err_set(err, ERR_TIMEOUT, "it was interrupted, and is running still");
        pause_ms(b->c.loop, IDLE_PAUSE_MS);
        rc = look(b, session, &now, err);
    }
    return rc;
}

static int archive(struct branch *b, const char *session, struct err *err)
{
    const struct json *ignored;
    char path[128];
    snprintf(path, sizeof path, "/v1/sessions/%s/archive", session);
    return client_json(&b->c.client, "POST", path, STR_NONE, &b->c.arena, &ignored, err);
}

/* The copy first: an original that cannot be copied is left as it is. */
static int rewind_session(struct branch *b, const char *session, const char *event, struct err *err)
{
    const struct json *made;
    bool interrupted;
    int rc = fork_session(b, session, event, &made, err);
    if (rc)
        return err_wrap(err, "nothing was done to %s", session);
    rc = come_to_rest(b, session, &interrupted, err);
    if (rc == 0)
        rc = archive(b, session, err);
    struct str id = json_get_str(made, "id");
    if (rc)
        return err_wrap(err, STR_FMT " was made, but %s is not archived", STR_ARG(id), session);
    AUTO_BUF struct buf note = BUF_INIT(4096);
    struct str files = json_get_str(json_get(made, "forked_from"), "files_as_of");
    buf_printf(&note, "%s was %sarchived; ", session, interrupted ? "interrupted and " : "");
    if (files.len)
        buf_printf(&note, STR_FMT " has its files as of " STR_FMT, STR_ARG(id), STR_ARG(files));
    else
        buf_printf(&note, STR_FMT " begins without files", STR_ARG(id));
    AUTO_BUF struct buf safe = BUF_INIT(8192);
    term_safe_line(&safe, buf_view(&note));
    buf_ch(&safe, '\n');
    struct err ignored;
    if (fd_write_all(STDERR_FILENO, buf_view(&safe), &ignored))
        return 0; /* nobody reads it */
    return 0;
}

/* ---- the commands ---- */

/* `spec` says how the two differ; the rest of it is filled in here. */
static int run(struct command_spec *spec, int argc, char **argv, bool rewinds)
{
    struct branch b = {0};
    const struct option_spec options[] = {
        {"title", 't', OPTION_TEXT, &b.title, "TEXT", "title of the new session", 0, 0},
        {"agent", 'a', OPTION_TEXT, &b.agent, "ID", "go on with another agent", 0, 0},
        {"json", 0, OPTION_FLAG, &b.json, NULL, "the whole session as JSON", 0, 0},
        CONNECT_OPTIONS(b.flags),
        {.kind = OPTION_END},
    };
    struct option_words words;
    const struct json *made;
    struct err err;
    int code;
    spec->options = options;
    spec->max_words = 2;
    if (!connect_begin(spec, argc, argv, &words, &code))
        return code;
    const char *session = words.word[0], *event = words.n > 1 ? words.word[1] : NULL;
    int rc = connect_open(&b.c, &b.flags, &err);
    if (rc == 0)
        rc = rewinds ? rewind_session(&b, session, event, &err)
                     : fork_session(&b, session, event, &made, &err);
    connect_close(&b.c);
    return rc ? cli_fail_err(spec->name, &err) : CLI_OK;
}

static const char fork_notes[] =
    "The new session has the conversation up to EVENT (the newest, when it is left out) and the\n"
    "files as of the end of that turn, or of the newest point before it that is known. A running\n"
    "session goes on.\n"
    "\n"
    "Examples:\n"
    "  ostler fork sesn_... sevt_...\n"
    "  ostler fork sesn_... --agent agent_... --title 'the same with another model'\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

int cmd_fork(int argc, char **argv)
{
    struct command_spec spec = {.name = "fork",
                                .usage = "ostler fork SESSION [EVENT] [--title TEXT] "
                                         "[--agent ID] [--json]",
                                .summary = "Makes a session that goes on from a point of "
                                           "another one, and prints its id.",
                                .notes = fork_notes,
                                .min_words = 1,
                                .word_name = "SESSION"};
    return run(&spec, argc, argv, false);
}

static const char rewind_notes[] =
    "The same as ostler fork; then the old session is interrupted, if it is running, and "
    "archived.\n"
    "When the new session cannot be made, nothing is done to the old one.\n"
    "\n"
    "Examples:\n"
    "  ostler rewind sesn_... sevt_...\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

int cmd_rewind(int argc, char **argv)
{
    struct command_spec spec = {.name = "rewind",
                                .usage = "ostler rewind SESSION EVENT [--title TEXT] "
                                         "[--agent ID] [--json]",
                                .summary = "Goes on from an earlier point in a new session, "
                                           "prints its id, and archives the old one.",
                                .notes = rewind_notes,
                                .min_words = 2,
                                .word_name = "SESSION and EVENT"};
    return run(&spec, argc, argv, true);
}
