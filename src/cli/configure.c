/* `ostler config`: looks for mistakes in a configuration, or prints a commented one. */
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/options.h"
#include "io/loop.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int print(struct buf *out)
{
    struct err err;
    return fd_write_all(STDOUT_FILENO, buf_view(out), &err)
               ? cli_fail(CLI_FAILED, "config", "%s", err.msg)
               : CLI_OK;
}

static void client_closed(void *arg)
{
    bool *closed = arg;
    *closed = true;
}

/* What only shows where the parts meet: routes to providers that are not there, the table of
 * prices. */
static void check_models(struct config *c, struct buf *out)
{
    const struct model_config cfg = config_model(c);
    struct loop *loop = loop_new();
    struct http_client *http = http_client_new(loop);
    struct model_router *router;
    struct err err = {0};
    struct stat st;
    if (c->script_dir && (stat(c->script_dir, &st) < 0 || !S_ISDIR(st.st_mode))) {
        err_at(&err, ERR_INVALID, "script_dir",
               "script_dir: %s is not a directory; make it, or "
               "leave the key out",
               c->script_dir);
        config_excuse(c, &err);
    }
    if (model_router_new(loop, http, &cfg, &router, &err) == 0) {
        if (config_model_ids(c, router, &err))
            config_excuse(c, &err);
        config_show(c, router, out);
        model_router_free(router);
    } else {
        config_excuse(c, &err);
    }
    bool closed = false;
    http_client_close(http, client_closed, &closed);
    while (!closed)
        loop_run(loop);
    loop_free(loop);
}

static int check(const char *file)
{
    AUTO_FREE struct config *c = mem_zalloc(sizeof *c);
    AUTO_FREE struct config_mistakes *all = mem_zalloc(sizeof *all);
    AUTO_BUF struct buf out = BUF_INIT(1024 * 1024);
    const struct config_flags flags = {.file = file};
    const char *name = file ? file : config_env("OSTLER_CONFIG");
    config_check(c, &flags, all);
    /* The models' layer would repeat in other words what is known to be wrong. */
    if (all->n == 0)
        check_models(c, &out);
    for (size_t i = 0; i < all->n; i++)
        (void)cli_fail(CLI_USAGE, "config", "%s", all->at[i].msg);
    int code = all->n ? CLI_USAGE : CLI_OK;
    if (code == CLI_OK) {
        buf_printf(&out, "# %s: no mistakes\n", name ? name : "no file");
        code = print(&out);
    }
    config_fini(c);
    return code;
}

static int print_default(void)
{
    AUTO_BUF struct buf out = BUF_INIT(64 * 1024);
    buf_z(&out, config_example);
    return print(&out);
}

static const char notes[] =
    "check reads FILE, or the one in OSTLER_CONFIG, as `ostler serve` would, with the "
    "environment,\n"
    "and prints what is in force as YAML; of keys it says only whether they are set.\n"
    "Every mistake is a line on stderr with its place and what to do. print-default prints a file\n"
    "with every key, its default and what it is for, all of it switched off.\n"
    "\n"
    "Examples:\n"
    "  ostler config check /etc/ostler/ostler.yaml\n"
    "  ostler config print-default > ostler.yaml\n"
    "\n"
    "Exit codes: 0 no mistakes, 2 mistakes or usage\n";

int cmd_config(int argc, char **argv)
{
    const struct option_spec options[] = {{.kind = OPTION_END}};
    const struct command_spec spec = {
        .name = "config",
        .usage = "ostler config check [FILE]\nostler config print-default",
        .summary = "Looks for mistakes in a configuration and shows what is in force, or prints a\n"
                   "commented one.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 2,
        .word_name = "check or print-default",
        .choices = (const char *const[]){"check", "print-default", NULL},
        .files = true};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (strcmp(words.word[0], "check") == 0)
        return check(words.n > 1 ? words.word[1] : NULL);
    if (strcmp(words.word[0], "print-default") != 0)
        return cli_fail(CLI_USAGE, "config", "'%s' is not one of check, print-default",
                        words.word[0]);
    if (words.n > 1)
        return cli_fail(CLI_USAGE, "config", "'%s' is one argument too many", words.word[1]);
    return print_default();
}
