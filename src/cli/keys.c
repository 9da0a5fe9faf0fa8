#include "base/clock.h"
#include "base/fd.h"
#include "cli/apikey.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/options.h"
#include "cli/term.h"
#include "io/loop.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Keys are managed in the database itself, beside a running server if there is one: whoever may
 * write the data directory may do that, and nobody else can. */

struct keys {
    const char *data, *workspace, *name;
    struct loop *loop;
    struct store *store;
    struct buf out;
};

static const char notes[] =
    "A key is shown once, when it is made; only its hash is stored. A workspace is made by its\n"
    "first key; the objects of one workspace are invisible to the keys of all others. A revoked\n"
    "key may work for up to five seconds more.\n"
    "\n"
    "Examples:\n"
    "  ostler keys create --name laptop\n"
    "  ostler keys create --workspace team-b --name ci\n"
    "  ostler keys ls\n"
    "  ostler keys revoke apikey_01ABC\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage\n";

static int check_name(const char *what, const char *text, struct err *err)
{
    struct str s = str_z(text);
    bool plain = s.len > 0 && s.len <= 64 && str_utf8(s);
    for (size_t i = 0; i < s.len; i++)
        plain = plain && (unsigned char)s.ptr[i] >= 0x20 && s.ptr[i] != 0x7f;
    return plain ? 0
                 : err_at(err, ERR_INVALID, what,
                          "%s must be 1 to 64 bytes of text without control characters", what);
}

static int create(struct keys *k, const char *unused, struct err *err)
{
    (void)unused;
    struct apikey key = apikey_new();
    struct id id;
    int rc = check_name("--workspace", k->workspace, err);
    rc = rc ? rc : check_name("--name", k->name, err);
    rc = rc ? rc
            : apikey_add(k->loop, k->store, str_z(k->workspace), str_z(k->name), &key, &id, err);
    if (rc)
        return rc;
    buf_printf(&k->out, "%s\n", key.z);
    fprintf(stderr, "made %s in workspace %s; the key is shown this once\n", id.z, k->workspace);
    return 0;
}

/* ---- ls ---- */

struct list_job {
    struct store_job job;
    struct arena arena;
    struct key_row *rows;
    size_t n;
};

static int list_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct list_job *l = CONTAINER_OF(job, struct list_job, job);
    arena_reset(&l->arena);
    return tx_key_list(tx, &l->arena, &l->rows, &l->n, err);
}

static void put_time(struct buf *out, int64_t at_us)
{
    char text[CLOCK_TEXT_MAX] = "-";
    if (at_us)
        clock_format(text, at_us);
    buf_printf(out, "%-20.19s", text);
}

static int list(struct keys *k, const char *unused, struct err *err)
{
    (void)unused;
    struct list_job l = {.rows = NULL};
    l.job.fn = list_fn;
    arena_init(&l.arena, 64 * 1024 * 1024);
    int rc = apikey_job(k->loop, k->store, &l.job, false, err);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct key_row *row = &l.rows[i];
        if (k->workspace && !str_eqz(row->workspace_name, k->workspace))
            continue;
        buf_printf(&k->out, "%-32s ", row->id.z);
        put_time(&k->out, row->created_us);
        buf_printf(&k->out, "%-9s", row->revoked_us ? "revoked" : "valid");
        term_safe_line(&k->out, row->workspace_name);
        buf_z(&k->out, "  ");
        term_safe_line(&k->out, row->name);
        buf_ch(&k->out, '\n');
    }
    arena_fini(&l.arena);
    return rc;
}

/* ---- revoke ---- */

struct revoke_job {
    struct store_job job;
    struct str id;
};

static int revoke_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct revoke_job *r = CONTAINER_OF(job, struct revoke_job, job);
    return tx_key_revoke(tx, r->id, clock_unix_us(), err);
}

static int revoke_one(struct keys *k, const char *id, struct err *err)
{
    struct revoke_job r = {.id = str_z(id)};
    r.job.fn = revoke_fn;
    int rc = apikey_job(k->loop, k->store, &r.job, true, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "no key %s; `ostler keys ls` lists them", id);
    if (rc == 0)
        buf_printf(&k->out, "revoked %s\n", id);
    return rc;
}

/* ---- the command ---- */

static const struct action {
    const char *name;
    size_t words;
    int (*fn)(struct keys *k, const char *id, struct err *err);
    bool makes_data; /* a data directory that does not exist yet is made */
} actions[] = {
    {"create", 1, create, true}, {"ls", 1, list, false}, {"revoke", 2, revoke_one, false}};

static const struct action *find_action(const struct option_words *w, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        if (strcmp(w->word[0], actions[i].name) != 0)
            continue;
        if (w->n == actions[i].words)
            return &actions[i];
        if (w->n < actions[i].words)
            err_set(err, ERR_INVALID, "%s needs the id of a key (apikey_...)", w->word[0]);
        else
            err_set(err, ERR_INVALID, "'%s' is one argument too many", w->word[1]);
        return NULL;
    }
    err_set(err, ERR_INVALID, "'%s' is not one of create, ls, revoke", w->word[0]);
    return NULL;
}

static int run(struct keys *k, const struct action *a, const char *id, struct err *err)
{
    struct stat st;
    int rc = 0;
    if (a->makes_data)
        rc = fd_mkdirs(k->data, 0700, err);
    else if (stat(k->data, &st) < 0)
        return err_set(err, ERR_NOT_FOUND, "there is no data directory %s; name it with --data DIR",
                       k->data);
    if (rc)
        return err_wrap(err, "data directory");
    const struct store_config cfg = {.dir = k->data, .readers = 1};
    k->loop = loop_new();
    rc = store_open(k->loop, &cfg, &k->store, err);
    if (rc == 0) {
        rc = a->fn(k, id, err);
        store_close(k->store);
    }
    loop_free(k->loop);
    return rc;
}

int cmd_keys(int argc, char **argv)
{
    struct keys k = {.name = "keys create"};
    const struct option_spec options[] = {
        {"workspace", 'w', OPTION_TEXT, &k.workspace, "NAME", "workspace (default)", 0, 0},
        {"name", 'n', OPTION_TEXT, &k.name, "NAME", "what the key is for", 0, 0},
        {"data", 0, OPTION_TEXT, &k.data, "DIR", "data directory [OSTLER_DATA]", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "keys",
        .usage = "ostler keys create [--workspace NAME] [--name NAME]\n"
                 "ostler keys ls [--workspace NAME]\n"
                 "ostler keys revoke ID",
        .summary = "Creates, lists and revokes API keys, in the data directory itself.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 2,
        .word_name = "create, ls or revoke",
        .choices = (const char *const[]){"create", "ls", "revoke", NULL}};
    struct option_words words;
    struct err err;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    const struct action *a = find_action(&words, &err);
    if (!a)
        return cli_fail(CLI_USAGE, "keys", "%s", err.msg);
    if (a->fn == create && !k.workspace)
        k.workspace = APIKEY_DEFAULT_WORKSPACE;
    AUTO_ARENA struct arena arena;
    arena_init(&arena, 64 * 1024);
    if (!k.data && config_default_data(&arena, &k.data, &err))
        return cli_fail(CLI_USAGE, "keys", "%s", err.msg);
    buf_init(&k.out, 64 * 1024 * 1024);
    int rc = run(&k, a, words.word[1], &err);
    rc = rc ? rc : fd_write_all(STDOUT_FILENO, buf_view(&k.out), &err);
    buf_fini(&k.out);
    return rc ? cli_fail(err.code == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "keys", "%s", err.msg)
              : CLI_OK;
}
