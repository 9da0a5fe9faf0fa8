/* ostler files: the files of a session, as they are or as they were. */
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/term.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { FILES_TEXT = 256 << 20 };

struct files_view {
    struct connect connect;
    const char *session, *path, *at, *diff, *tar;
    bool checkpoints, as_json;
};

static const char notes[] =
    "A directory is listed, a file is printed. --at shows them as of an event of the session's\n"
    "log, from the newest checkpoint that is not after it. --diff prints a patch: EVENT is what\n"
    "changed since, FROM..TO what changed between two, ..EVENT what changed since the import.\n"
    "\n"
    "Examples:\n"
    "  ostler files sesn_01ABC\n"
    "  ostler files sesn_01ABC src/main.c --at sevt_01XYZ\n"
    "  ostler files sesn_01ABC --diff sevt_01XYZ\n"
    "  ostler files sesn_01ABC --diff sevt_01XYZ..sevt_02XYZ\n"
    "  ostler files sesn_01ABC --at sevt_01XYZ --tar before.tar\n"
    "  ostler files sesn_01ABC --checkpoints\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

static void add_query(struct buf *path, char *glue, const char *name, struct str value)
{
    if (!value.len)
        return;
    buf_ch(path, *glue);
    buf_printf(path, "%s=", name);
    http_encode(path, value);
    *glue = '&';
}

/* For people, without what could drive their terminal; for a pipe, as it is. */
static int put_bytes(struct files_view *v, const char *path, struct err *err)
{
    struct client_request r = {.method = "GET", .path = path};
    struct term term = term_for(STDOUT_FILENO);
    AUTO_BUF struct buf got = BUF_INIT(FILES_TEXT);
    AUTO_BUF struct buf safe = BUF_INIT((size_t)FILES_TEXT * 3);
    if (!term.tty) {
        r.to_file = true;
        r.out_fd = STDOUT_FILENO;
    }
    int rc = client_send(&v->connect.client, &r, &got, err);
    if (rc || !term.tty)
        return rc;
    term_safe(&safe, buf_view(&got));
    return fd_write_all(STDOUT_FILENO, buf_view(&safe), err);
}

/* ---- a listing ---- */

static void put_mode(struct buf *out, struct str type, struct str mode)
{
    static const char letters[] = "rwxrwxrwx";
    unsigned bits = 0;
    for (size_t i = 0; i < mode.len; i++)
        bits = bits << 3 | (unsigned)(mode.ptr[i] & 7);
    buf_ch(out, str_eqz(type, "directory") ? 'd' : str_eqz(type, "symlink") ? 'l' : '-');
    for (unsigned i = 0; i < 9; i++)
        buf_ch(out, bits & 1u << (8 - i) ? letters[i] : '-');
}

static struct str last_name(struct str path)
{
    size_t at = path.len;
    while (at > 0 && path.ptr[at - 1] != '/')
        at--;
    return str_skip(path, at);
}

static void put_entry(struct buf *out, const struct json *e)
{
    int64_t size = 0;
    struct str type = json_get_str(e, "type");
    (void)json_i64(json_get(e, "size_bytes"), &size);
    put_mode(out, type, json_get_str(e, "mode"));
    buf_printf(out, " %12" PRId64 "  ", size);
    term_safe_line(out, last_name(json_get_str(e, "path")));
    buf_z(out, str_eqz(type, "directory") ? "/\n" : "\n");
}

static int put_listing(struct files_view *v, const struct json *doc, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(FILES_TEXT);
    struct str as_of = json_get_str(doc, "files_as_of");
    json_for_each (e, json_get(doc, "data")) {
        if (v->as_json)
            buf_str(&out, e->raw);
        else
            put_entry(&out, e);
        if (v->as_json)
            buf_ch(&out, '\n');
    }
    if (str_some(as_of) && !v->as_json) {
        AUTO_BUF struct buf note = BUF_INIT(4096);
        buf_printf(
            &note, "files as of " STR_FMT "%s\n", STR_ARG(as_of),
            json_is_true(json_get(doc, "exact")) ? "" : "; what tools did after it is not in them");
        (void)!fd_write_all(STDERR_FILENO, buf_view(&note), NULL);
    }
    return fd_write_all(STDOUT_FILENO, buf_view(&out), err);
}

static void make_path(const struct files_view *v, bool directory, struct buf *out)
{
    char glue = '?';
    AUTO_BUF struct buf name = BUF_INIT(64 * 1024);
    buf_z(&name, v->path ? v->path : "");
    if (directory)
        buf_ch(&name, '/');
    buf_printf(out, "/v1/sessions/%s/workspace", v->session);
    add_query(out, &glue, "path", buf_view(&name));
    add_query(out, &glue, "at", str_z(v->at));
}

/* As a directory first: what the answer is cannot be told from a file's bytes. */
static int show(struct files_view *v, struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(256 * 1024);
    const struct json *doc;
    make_path(v, true, &path);
    int rc =
        client_json(&v->connect.client, "GET", path.data, STR_NONE, &v->connect.arena, &doc, err);
    if (rc == 0)
        return put_listing(v, doc, err);
    if (rc != ERR_INVALID || !v->path)
        return rc;
    buf_clear(&path);
    make_path(v, false, &path);
    return put_bytes(v, path.data, err);
}

/* ---- patches, archives ---- */

static int show_patch(struct files_view *v, struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(64 * 1024);
    struct str from = str_z(v->diff), to = STR_NONE;
    ptrdiff_t dots = str_find(from, STR(".."));
    char glue = '?';
    if (dots >= 0) {
        to = str_skip(from, (size_t)dots + 2);
        from = str_take(from, (size_t)dots);
    }
    buf_printf(&path, "/v1/sessions/%s/workspace.patch", v->session);
    add_query(&path, &glue, "from", from);
    add_query(&path, &glue, "at", to);
    return put_bytes(v, path.data, err);
}

static int save_tar(struct files_view *v, struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(64 * 1024);
    char glue = '?';
    buf_printf(&path, "/v1/sessions/%s/workspace.tar", v->session);
    add_query(&path, &glue, "at", str_z(v->at));
    struct client_request r = {.method = "GET", .path = path.data, .to_file = true};
    if (str_eqz(str_z(v->tar), "-")) {
        r.out_fd = STDOUT_FILENO;
        return client_send(&v->connect.client, &r, NULL, err);
    }
    AUTO_FD int fd = open(v->tar, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(err, errno, "%s", v->tar);
    r.out_fd = fd;
    int rc = client_send(&v->connect.client, &r, NULL, err);
    if (rc)
        unlink(v->tar);
    return rc;
}

/* ---- checkpoints ---- */

static void put_checkpoint(const struct files_view *v, struct buf *out, const struct json *c)
{
    int64_t files = 0, size = 0, stored = 0;
    if (v->as_json) {
        buf_str(out, c->raw);
        buf_ch(out, '\n');
        return;
    }
    (void)json_i64(json_get(c, "files"), &files);
    (void)json_i64(json_get(c, "size_bytes"), &size);
    (void)json_i64(json_get(c, "stored_bytes"), &stored);
    struct str id = json_get_str(c, "event_id"), at = str_take(json_get_str(c, "at"), 19);
    buf_printf(out, "%-30.*s  " STR_FMT "  %-9s %7" PRId64 " files %12" PRId64 " bytes, ",
               STR_ARG(id.len ? id : STR("-")), STR_ARG(at),
               json_is_true(json_get(c, "turn_end")) ? "turn end" : "mid-turn", files, size);
    buf_printf(out, "%" PRId64 " stored\n", stored);
}

static int show_checkpoints(struct files_view *v, struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(64 * 1024);
    struct str cursor = STR_NONE;
    bool any = false;
    do {
        AUTO_BUF struct buf out = BUF_INIT(FILES_TEXT);
        const struct json *doc;
        char glue = '&';
        buf_clear(&path);
        buf_printf(&path, "/v1/sessions/%s/checkpoints?limit=1000", v->session);
        add_query(&path, &glue, "page", cursor);
        int rc = client_json(&v->connect.client, "GET", path.data, STR_NONE, &v->connect.arena,
                             &doc, err);
        if (rc)
            return rc;
        json_for_each (c, json_get(doc, "data"))
            put_checkpoint(v, &out, c);
        any |= out.len > 0;
        cursor = json_get_str(doc, "next_page");
        if (!any && !v->as_json)
            buf_z(&out, "no checkpoints\n");
        rc = fd_write_all(STDOUT_FILENO, buf_view(&out), err);
        if (rc)
            return rc;
    } while (cursor.len);
    return 0;
}

static int check(const struct files_view *v, struct err *err)
{
    int modes = (v->diff != NULL) + (v->tar != NULL) + v->checkpoints;
    if (modes > 1)
        return err_set(err, ERR_INVALID, "--diff, --tar and --checkpoints exclude one another");
    if (modes && v->path)
        return err_set(err, ERR_INVALID, "a PATH goes with none of --diff, --tar, --checkpoints");
    if (v->at && (v->diff || v->checkpoints))
        return err_set(err, ERR_INVALID,
                       v->diff ? "with --diff write FROM..TO instead of --at"
                               : "--at does not go with --checkpoints");
    return 0;
}

int cmd_files(int argc, char **argv)
{
    struct connect_flags flags = {0};
    struct files_view v = {.session = NULL};
    const struct option_spec options[] = {
        {"at", 0, OPTION_TEXT, &v.at, "EVENT", "as of this event", 0, 0},
        {"diff", 0, OPTION_TEXT, &v.diff, "EVENTS", "a patch: EVENT, FROM..TO or ..EVENT", 0, 0},
        {"tar", 0, OPTION_TEXT, &v.tar, "FILE", "save everything as a tar ('-': stdout)", 0, 0},
        {"checkpoints", 0, OPTION_FLAG, &v.checkpoints, NULL, "list when files were kept", 0, 0},
        {"json", 0, OPTION_FLAG, &v.as_json, NULL, "lists: one JSON object a line", 0, 0},
        CONNECT_OPTIONS(flags),
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "files",
        .usage = "ostler files SESSION [PATH] [--at EVENT] [--json]\n"
                 "ostler files SESSION --diff EVENT|FROM..TO|..EVENT\n"
                 "ostler files SESSION --tar FILE [--at EVENT]\n"
                 "ostler files SESSION --checkpoints [--json]",
        .summary = "Lists, shows, compares and exports the files of a session over time.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 2,
        .word_name = "SESSION"};
    struct option_words words;
    struct err err = {0};
    int code;
    if (!connect_begin(&spec, argc, argv, &words, &code))
        return code;
    v.session = words.word[0];
    v.path = words.n > 1 ? words.word[1] : NULL;
    if (check(&v, &err))
        return cli_fail(CLI_USAGE, "files", "%s", err.msg);
    int rc = connect_open(&v.connect, &flags, &err);
    if (rc == 0)
        rc = v.checkpoints ? show_checkpoints(&v, &err)
             : v.diff      ? show_patch(&v, &err)
             : v.tar       ? save_tar(&v, &err)
                           : show(&v, &err);
    connect_close(&v.connect);
    return rc ? cli_fail_err("files", &err) : CLI_OK;
}
