#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/term.h"
#include "json/writer.h"

#include <stdio.h>
#include <unistd.h>

/* By the HTTP API, with an API key: whoever may use the server may let workers in. */

struct environments {
    struct connect c;
    const char *name;
    struct buf out;
};

static const char notes[] =
    "The key of an environment is what a worker says who it is with: it takes the environment's\n"
    "sessions off their queue and runs their tools. It is shown once; only its hash is stored. A\n"
    "removed key may work for up to five seconds more.\n"
    "\n"
    "Examples:\n"
    "  ostler environments keys create env_01ABC --name rack-7\n"
    "  ostler environments keys ls env_01ABC\n"
    "  ostler environments keys rm env_01ABC ekey_01DEF\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the server\n";

/* A part of a path as a person types it: refused here rather than sent. */
static int check_id(const char *id, const char *prefix, const char *what, struct err *err)
{
    if (id_valid(str_z(id), prefix))
        return 0;
    return err_at(err, ERR_INVALID, what, "'%.64s' is no id of %s (%s_...)", id, what, prefix);
}

static int create(struct environments *e, const char *env, const char *unused, struct err *err)
{
    (void)unused;
    char path[128];
    const struct json *doc;
    AUTO_BUF struct buf body = BUF_INIT(4096);
    struct jw w = jw_to(&body);
    jw_obj(&w);
    jw_kz(&w, "name", e->name);
    jw_obj_end(&w);
    snprintf(path, sizeof path, "/v1/environments/%s/keys", env);
    int rc = client_json(&e->c.client, "POST", path, buf_view(&body), &e->c.arena, &doc, err);
    if (rc)
        return rc;
    struct str key = json_get_str(doc, "key"), id = json_get_str(doc, "id");
    if (!key.len) /* the answer was lost, and repeated without it */
        return err_set(err, ERR_UNAVAILABLE,
                       "the answer with the key got lost; remove " STR_FMT " and make another",
                       STR_ARG(str_utf8_take(id, 64)));
    term_safe_line(&e->out, key);
    buf_ch(&e->out, '\n');
    fprintf(stderr, "made " STR_FMT "; the key is shown this once\n",
            STR_ARG(str_utf8_take(id, 64)));
    return 0;
}

static void put_row(struct buf *out, const struct json *row)
{
    term_safe_line(out, str_utf8_take(json_get_str(row, "id"), 40));
    buf_z(out, "  ");
    term_safe_line(out, str_take(json_get_str(row, "created_at"), 19));
    buf_z(out, "  ");
    term_safe_line(out, json_get_str(row, "name"));
    buf_ch(out, '\n');
}

static int list(struct environments *e, const char *env, const char *unused, struct err *err)
{
    (void)unused;
    AUTO_BUF struct buf path = BUF_INIT(8192);
    struct str cursor = STR_NONE;
    do {
        const struct json *doc;
        buf_clear(&path);
        buf_printf(&path, "/v1/environments/%s/keys?limit=100", env);
        if (str_some(cursor)) {
            buf_z(&path, "&page=");
            http_encode(&path, cursor);
        }
        int rc = client_json(&e->c.client, "GET", path.data, STR_NONE, &e->c.arena, &doc, err);
        if (rc)
            return rc;
        json_for_each (row, json_get(doc, "data"))
            put_row(&e->out, row);
        cursor = json_get_str(doc, "next_page");
    } while (cursor.len);
    if (!e->out.len)
        buf_z(&e->out, "no keys\n");
    return 0;
}

static int remove_one(struct environments *e, const char *env, const char *key, struct err *err)
{
    char path[192];
    const struct json *doc;
    snprintf(path, sizeof path, "/v1/environments/%s/keys/%s", env, key);
    int rc = client_json(&e->c.client, "DELETE", path, STR_NONE, &e->c.arena, &doc, err);
    if (rc == 0)
        buf_printf(&e->out, "removed %s\n", key);
    return rc;
}

static const struct action {
    const char *name;
    size_t words;
    int (*fn)(struct environments *e, const char *env, const char *key, struct err *err);
} actions[] = {{"create", 3, create}, {"ls", 3, list}, {"rm", 4, remove_one}};

static const struct action *find_action(const struct option_words *w, struct err *err)
{
    if (strcmp(w->word[0], "keys") != 0 || w->n < 2) {
        err_set(err, ERR_INVALID, "say `environments keys create`, `keys ls` or `keys rm`");
        return NULL;
    }
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        if (strcmp(w->word[1], actions[i].name) != 0)
            continue;
        if (w->n == actions[i].words)
            return &actions[i];
        err_set(err, ERR_INVALID, "keys %s needs the id of an environment%s, and nothing else",
                w->word[1], actions[i].words > 3 ? " and that of a key" : "");
        return NULL;
    }
    err_set(err, ERR_INVALID, "'%s' is not one of create, ls, rm", w->word[1]);
    return NULL;
}

int cmd_environments(int argc, char **argv)
{
    struct connect_flags flags = {0};
    struct environments e = {.name = "environments keys create"};
    const struct option_spec options[] = {
        {"name", 'n', OPTION_TEXT, &e.name, "NAME", "what the key is for", 0, 0},
        CONNECT_OPTIONS(flags),
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "environments",
        .usage = "ostler environments keys create ENV [--name NAME]\n"
                 "ostler environments keys ls ENV\n"
                 "ostler environments keys rm ENV KEY",
        .summary = "Makes, lists and removes the keys of a self-hosted environment's workers.",
        .notes = notes,
        .options = options,
        .min_words = 2,
        .max_words = 4,
        .word_name = "keys",
        .choices = (const char *const[]){"keys", NULL}};
    struct option_words words;
    struct err err;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    const struct action *a = find_action(&words, &err);
    if (!a || check_id(words.word[2], "env", "environment", &err) ||
        (a->words > 3 && check_id(words.word[3], "ekey", "key", &err)))
        return cli_fail(CLI_USAGE, "environments", "%s", err.msg);
    buf_init(&e.out, 64 * 1024 * 1024);
    int rc = connect_open(&e.c, &flags, &err);
    rc = rc ? rc : a->fn(&e, words.word[2], a->words > 3 ? words.word[3] : NULL, &err);
    rc = rc ? rc : fd_write_all(STDOUT_FILENO, buf_view(&e.out), &err);
    connect_close(&e.c);
    buf_fini(&e.out);
    return rc ? cli_fail_err("environments", &err) : CLI_OK;
}
