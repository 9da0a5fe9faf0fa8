#include "cli/connect.h"

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/lock.h"
#include "cli/options.h"

static int find_server(struct connect *c, const struct connect_flags *flags, const char *data,
                       const char **url, bool *local, struct err *err)
{
    *url = flags->server ? flags->server : config_env("OSTLER_BASE_URL");
    *local = *url == NULL || lock_url_is_local(*url);
    if (*url)
        return 0;
    struct lock_owner owner;
    lock_look(data, &owner);
    if (!owner.pid || !owner.url[0])
        return err_set(err, ERR_CONNECT,
                       "no server runs on the data directory %s; start one with `ostler serve`, or "
                       "name one with --server URL",
                       data);
    *url = arena_strz(&c->arena, str_z(owner.url));
    return 0;
}

int connect_open(struct connect *c, const struct connect_flags *flags, struct err *err)
{
    *c = (struct connect){.loop = loop_new()};
    arena_init(&c->arena, 512 * 1024 * 1024);
    const char *data = flags->data, *url = NULL;
    bool local = true;
    int rc = data ? 0 : config_default_data(&c->arena, &data, err);
    rc = rc ? rc : find_server(c, flags, data, &url, &local, err);
    return rc ? rc : client_open_found(&c->client, c->loop, url, local ? data : NULL, err);
}

void connect_close(struct connect *c)
{
    client_close(&c->client);
    loop_free(c->loop);
    arena_fini(&c->arena);
}

int connect_check_session(const char *id, struct err *err)
{
    if (id_valid(str_z(id), "sesn"))
        return 0;
    return err_at(err, ERR_INVALID, "ID",
                  "'%s' is not a session id (sesn_...); `ostler sessions` lists them", id);
}

bool connect_begin(const struct command_spec *spec, int argc, char **argv,
                   struct option_words *words, int *exit_code)
{
    struct err err;
    if (!options_begin(spec, argc, argv, words, exit_code))
        return false;
    if (connect_check_session(words->word[0], &err)) {
        *exit_code = cli_fail(CLI_USAGE, spec->name, "%s", err.msg);
        return false;
    }
    return true;
}
