#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/term.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static const char notes[] = "Examples:\n"
                            "  ostler sessions\n"
                            "  ostler sessions --limit 5 --json\n"
                            "\n"
                            "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

static void cell(struct buf *out, struct str text, size_t width)
{
    AUTO_BUF struct buf safe = BUF_INIT(64 * 1024);
    term_safe_line(&safe, text);
    struct str cut = str_utf8_take(buf_view(&safe), width);
    buf_str(out, cut);
    for (size_t n = str_utf8_len(cut); n < width; n++)
        buf_ch(out, ' ');
    buf_z(out, "  ");
}

static void put_row(struct buf *out, const struct json *s, bool as_json)
{
    if (as_json) {
        buf_str(out, s->raw);
        buf_ch(out, '\n');
        return;
    }
    const struct json *agent = json_get(s, "agent");
    struct str model = json_get_str(json_get(agent, "model"), "id");
    cell(out, json_get_str(s, "id"), 30);
    cell(out, json_get_str(s, "status"), 12);
    cell(out, str_take(json_get_str(s, "created_at"), 19), 19);
    cell(out, model, 20);
    AUTO_BUF struct buf title = BUF_INIT(64 * 1024);
    term_safe_line(&title, str_utf8_take(json_get_str(s, "title"), 80));
    buf_str(out, buf_view(&title));
    buf_ch(out, '\n');
}

/* Pages until `limit` sessions were shown. */
static int list(struct connect *c, int64_t limit, bool all, bool as_json, struct buf *out,
                struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(8192);
    struct str cursor = STR_NONE;
    do {
        buf_clear(&path);
        buf_printf(&path, "/v1/sessions?limit=%" PRId64 "%s", limit < 100 ? limit : 100,
                   all ? "&include_archived=true" : "");
        if (str_some(cursor)) {
            buf_z(&path, "&page=");
            http_encode(&path, cursor);
        }
        const struct json *doc;
        int rc = client_json(&c->client, "GET", path.data, STR_NONE, &c->arena, &doc, err);
        if (rc)
            return rc;
        json_for_each (s, json_get(doc, "data")) {
            if (limit-- > 0)
                put_row(out, s, as_json);
        }
        cursor = json_get_str(doc, "next_page");
    } while (limit > 0 && cursor.len);
    return 0;
}

int cmd_sessions(int argc, char **argv)
{
    struct connect_flags flags = {0};
    int64_t limit = 20;
    bool as_json = false, all = false;
    const struct option_spec options[] = {
        {"limit", 'n', OPTION_I64, &limit, "N", "how many, newest first (20)", 1, 100000},
        {"all", 'a', OPTION_FLAG, &all, NULL, "archived ones, too", 0, 0},
        {"json", 0, OPTION_FLAG, &as_json, NULL, "one JSON object a line", 0, 0},
        CONNECT_OPTIONS(flags),
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {.name = "sessions",
                                      .usage = "ostler sessions [--limit N] [--all] [--json]",
                                      .summary = "Lists sessions, newest first.",
                                      .notes = notes,
                                      .options = options};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    struct connect c;
    struct err err;
    AUTO_BUF struct buf out = BUF_INIT(256 * 1024 * 1024);
    int rc = connect_open(&c, &flags, &err);
    rc = rc ? rc : list(&c, limit, all, as_json, &out, &err);
    if (rc == 0 && out.len == 0 && !as_json)
        buf_z(&out, "no sessions\n");
    rc = rc ? rc : fd_write_all(STDOUT_FILENO, buf_view(&out), &err);
    connect_close(&c);
    return rc ? cli_fail_err("sessions", &err) : CLI_OK;
}
