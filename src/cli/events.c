#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/transcript.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct view {
    struct connect connect;
    struct follow follow;
    struct transcript transcript;
    bool as_json, following, stop;
    const char *session;
    struct err err;
};

static const char notes[] =
    "With --follow it goes on until Ctrl-C, or until the session is archived or deleted.\n"
    "\n"
    "Examples:\n"
    "  ostler events sesn_01ABC\n"
    "  ostler events sesn_01ABC --follow\n"
    "  ostler events sesn_01ABC --json | jq .type\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

static int flush(struct view *v, struct err *err)
{
    int rc = fd_write_all(STDOUT_FILENO, buf_view(&v->transcript.out), err);
    buf_clear(&v->transcript.out);
    return rc;
}

static void stop(struct view *v)
{
    v->stop = true;
    follow_end(&v->follow);
    loop_stop(v->connect.loop);
}

static void show(struct view *v, const struct follow_event *ev)
{
    if (!v->as_json) {
        transcript_event(&v->transcript, ev);
    } else if (str_some(ev->id)) {
        buf_str(&v->transcript.out, ev->text);
        buf_ch(&v->transcript.out, '\n');
    }
}

static void on_event(struct follow *f, const struct follow_event *ev)
{
    struct view *v = f->arg;
    show(v, ev);
    struct err err;
    bool last =
        str_eqz(ev->type, "session.status_terminated") || str_eqz(ev->type, "session.deleted");
    if (flush(v, &err) || last) /* nobody reads any more, or nothing more comes */
        stop(v);
}

static void on_state(struct follow *f, enum follow_state state, const struct err *err)
{
    struct view *v = f->arg;
    if (state == FOLLOW_LOST)
        transcript_break(&v->transcript);
    if (state != FOLLOW_DEAD)
        return;
    v->err = *err;
    stop(v);
}

static void on_signal(void *arg, int signum)
{
    (void)signum;
    stop(arg);
}

static int follow(struct view *v, struct err *err)
{
    struct connect *c = &v->connect;
    follow_init(&v->follow, &c->client, v->session);
    v->follow.previews = !v->as_json;
    v->follow.on_event = on_event;
    v->follow.on_state = on_state;
    v->follow.arg = v;
    if (loop_on_signal(c->loop, SIGINT, on_signal, v) ||
        loop_on_signal(c->loop, SIGTERM, on_signal, v))
        return err_set(err, ERR_INTERNAL, "cannot watch for signals");
    follow_start(&v->follow);
    while (!v->stop)
        loop_run(c->loop);
    follow_fini(&v->follow);
    *err = v->err;
    return v->err.code;
}

static int show_page(struct view *v, const struct json *doc, struct err *err)
{
    json_for_each (e, json_get(doc, "data")) {
        struct follow_event ev = {
            .type = json_get_str(e, "type"), .id = json_get_str(e, "id"), .text = e->raw, .doc = e};
        show(v, &ev);
    }
    return flush(v, err);
}

static int list(struct view *v, struct err *err)
{
    struct connect *c = &v->connect;
    AUTO_BUF struct buf path = BUF_INIT(8192), cursor = BUF_INIT(4096);
    for (;;) {
        buf_clear(&path);
        buf_printf(&path, "/v1/sessions/%s/events?limit=1000&order=asc", v->session);
        if (cursor.len) {
            buf_z(&path, "&page=");
            http_encode(&path, buf_view(&cursor));
        }
        AUTO_ARENA struct arena a;
        arena_init(&a, 512 * 1024 * 1024);
        const struct json *doc;
        int rc = client_json(&c->client, "GET", path.data, STR_NONE, &a, &doc, err);
        rc = rc ? rc : show_page(v, doc, err);
        if (rc)
            return rc;
        buf_clear(&cursor);
        buf_str(&cursor, json_get_str(doc, "next_page"));
        if (!cursor.len)
            return 0;
    }
}

int cmd_events(int argc, char **argv)
{
    struct connect_flags flags = {0};
    struct view v = {.session = NULL};
    const struct option_spec options[] = {
        {"follow", 'f', OPTION_FLAG, &v.following, NULL, "go on with what comes", 0, 0},
        {"json", 0, OPTION_FLAG, &v.as_json, NULL, "one JSON object a line", 0, 0},
        CONNECT_OPTIONS(flags),
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {.name = "events",
                                      .usage = "ostler events ID [--follow] [--json]",
                                      .summary = "Shows a session's events as a transcript.",
                                      .notes = notes,
                                      .options = options,
                                      .min_words = 1,
                                      .max_words = 1,
                                      .word_name = "ID"};
    struct option_words words;
    struct err err;
    int code;
    if (!connect_begin(&spec, argc, argv, &words, &code))
        return code;
    v.session = words.word[0];
    transcript_init(&v.transcript, term_for(STDOUT_FILENO));
    v.transcript.show_user = true;
    int rc = connect_open(&v.connect, &flags, &err);
    if (rc == 0)
        rc = v.following ? follow(&v, &err) : list(&v, &err);
    transcript_fini(&v.transcript);
    connect_close(&v.connect);
    return rc ? cli_fail_err("events", &err) : CLI_OK;
}
