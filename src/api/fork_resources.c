/* What is attached to a session, for a copy of it. */
#include "api/fork.h"

#include "api/compact.h"
#include "api/cursor.h"

#include "base/clock.h"
#include "base/limits.h"
#include "store/secret.h"

/* An object with some members replaced; those that are absent here stay. */
struct replaced {
    const char *key;
    struct str value; /* a string */
};

static int rewrite(struct arena *a, const struct json *doc, const struct replaced *with, size_t n,
                   struct str *out, struct err *err)
{
    struct buf b = BUF_INIT(256 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    json_for_each (m, doc) {
        struct str value = STR_NONE;
        for (size_t i = 0; i < n; i++)
            if (str_eqz(m->key, with[i].key))
                value = with[i].value;
        jw_key_str(&w, m->key);
        if (str_some(value))
            jw_str(&w, value);
        else
            jw_raw(&w, m->raw);
    }
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}

/* The content stays with the session whatever becomes of the file that clients see. Where that is
 * gone, the copy names what the original names: nothing. */
static int copy_file(struct store_tx *tx, struct call *c, const struct session_row *fork,
                     const struct resource_row *row, const struct json *entry,
                     struct resource_made *m, struct err *err)
{
    int64_t now = clock_unix_us();
    m->row.file_id = row->file_id;
    int rc =
        tx_file_get(tx, call_workspace(c), id_str(&row->file_id), now, &c->arena, &m->copy, err);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    if (rc || !str_some(m->copy.blob)) {
        m->copy = (struct file_row){.blob = json_get_str(entry, "blob")};
        return 0;
    }
    m->copy.id = m->row.file_id = id_new("file");
    m->copy.scope_id = fork->id;
    m->copy.created_us = now;
    return 0;
}

/* A sealed token is bound to its resource. */
static int reseal(struct call *c, const struct resource_row *row, struct resource_made *m,
                  struct str *text, struct err *err)
{
    struct str token;
    if (!str_some(row->secret))
        return 0;
    int rc =
        secret_open(c->api->cfg.data_dir, id_str(&row->id), row->secret, &c->arena, &token, err);
    if (rc)
        return err_wrap(err, "the token of resource '%s'", row->id.z);
    rc = secret_seal(c->api->cfg.data_dir, id_str(&m->row.id), token, &c->arena, &m->row.secret,
                     err);
    if (rc)
        return rc;
    AUTO_BUF struct buf b = BUF_INIT(65536);
    base64url_write(&b, m->row.secret);
    *text = arena_str(&c->arena, buf_view(&b));
    return 0;
}

static const struct json *find_entry(const struct json *provision, const char *list, struct str id)
{
    const struct json *entries = json_get(provision, list);
    if (json_is(entries, JSON_ARRAY))
        json_for_each (e, entries)
            if (str_eq(json_get_str(e, "id"), id))
                return e;
    return NULL;
}

static int copy_one(struct store_tx *tx, struct call *c, const struct session_row *fork,
                    const struct json *provision, const struct resource_row *row,
                    struct resource_made *m, struct err *err)
{
    struct arena *a = &c->arena;
    const struct json *body;
    struct str secret = STR_NONE;
    *m = (struct resource_made){.row = *row, .repository = !str_eqz(row->kind, "file")};
    m->row.id = id_new("sesrsc");
    const struct json *entry =
        find_entry(provision, m->repository ? "repositories" : "files", id_str(&row->id));
    if (!entry || json_parse(a, row->body, 0, &body, err))
        return err_set(err, ERR_CORRUPT, "Resource '%s' cannot be read", row->id.z);
    int rc = m->repository ? reseal(c, row, m, &secret, err)
                           : copy_file(tx, c, fork, row, entry, m, err);
    const struct replaced seen[] = {{"id", id_str(&m->row.id)},
                                    {"file_id", id_str(&m->row.file_id)}};
    const struct replaced used[] = {{"id", id_str(&m->row.id)}, {"secret", secret}};
    if (rc == 0)
        rc = rewrite(a, body, seen, m->repository ? 1 : 2, &m->row.body, err);
    return rc ? rc : rewrite(a, entry, used, COUNT_OF(used), &m->entry, err);
}

/* What the sandbox is made with besides: all that is no resource. */
static int keep_rest(struct call *c, const struct json *doc, const struct session_agent *agent,
                     struct str *out, struct err *err)
{
    static const char *const replaced[] = {"resources", "files", "repositories", "skills"};
    struct buf b = BUF_INIT((size_t)64 << 20);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    json_for_each (m, doc) {
        bool skip = false;
        for (size_t i = 0; i < COUNT_OF(replaced) - (agent ? 0 : 1); i++)
            skip = skip || str_eqz(m->key, replaced[i]);
        if (skip)
            continue;
        jw_key_str(&w, m->key);
        jw_raw(&w, m->raw);
    }
    if (agent && agent->skills.n) {
        jw_key(&w, "skills");
        skills_provision(&agent->skills, &w);
    }
    jw_obj_end(&w);
    return compact_keep(&c->arena, &b, out, err);
}

int fork_resources(struct store_tx *tx, struct call *c, const struct session_row *from,
                   const struct session_agent *agent, struct session_row *fork,
                   struct resource_made **out, size_t *n, struct err *err)
{
    const struct page all = {.limit = LIMIT_RESOURCES};
    const struct json *doc = NULL;
    struct resource_row *rows = NULL;
    bool more;
    *n = 0;
    fork->provision = STR_NONE;
    if (from->provision.len && json_parse(&c->arena, from->provision, 0, &doc, err))
        return err_set(err, ERR_CORRUPT, "the session's resources cannot be read");
    if (!doc && (!agent || agent->skills.n == 0))
        return 0;
    int rc = tx_resource_list(tx, from->key, &all, &c->arena, &rows, n, &more, err);
    if (rc == 0)
        *out = ARENA_ARRAY(&c->arena, struct resource_made, *n + 1);
    if (rc == 0 && !*out)
        rc = err_set(err, ERR_LIMIT, "the request is too large");
    for (size_t i = 0; rc == 0 && i < *n; i++)
        rc = copy_one(tx, c, fork, doc, &rows[i], &(*out)[i], err);
    if (rc == 0)
        rc = keep_rest(c, doc, agent, &fork->provision, err);
    if (rc == 0 && *n)
        rc = resources_provision(&c->arena, fork->provision, STR_NONE, *out, *n, &fork->provision,
                                 err);
    return rc;
}
