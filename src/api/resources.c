/* /v1/sessions/{id}/resources */
#include "api/resources.h"

#include "api/compact.h"
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/session_call.h"
#include "base/clock.h"
#include "base/limits.h"
#include "json/decode.h"
#include "store/secret.h"

struct resource_call {
    struct session_row session;
    struct resource_in in;
    struct resource_made *made;
    struct resource_row row, *rows;
    size_t n;
    bool more;
    struct listing list;
    struct str token;
    struct str provision; /* after a change */
};

static int find(struct store_tx *tx, struct call *c, struct resource_call *s, struct err *err)
{
    int rc = session_find(tx, c, &s->session, err);
    if (rc)
        return rc;
    rc = ERR_NOT_FOUND;
    if (id_valid(c->id[1], "sesrsc"))
        rc = tx_resource_get(tx, s->session.key, c->id[1], &c->arena, &s->row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "Resource '" STR_FMT "' not found in this session",
                       STR_ARG(str_utf8_take(c->id[1], 64)));
    return rc;
}

/* What every change ends with. */
static int save(struct store_tx *tx, struct call *c, struct resource_call *s, struct str without,
                size_t made, struct err *err)
{
    int rc = resources_provision(&c->arena, s->session.provision, without, s->made, made,
                                 &s->provision, err);
    return rc ? rc : tx_session_provision(tx, s->session.key, s->provision, clock_unix_us(), err);
}

static void tell_engine(struct call *c)
{
    const struct resource_call *s = c->state;
    engine_session_provisioned(c->api->cfg.engine, id_str(&s->session.id), s->provision);
}

static void reply_row(struct call *c)
{
    const struct resource_call *s = c->state;
    struct buf b = BUF_INIT(65536);
    buf_str(&b, s->row.body);
    call_reply(c, &b);
}

/* ---- one ---- */

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    return find(tx, c, c->state, err);
}

void resources_get(struct call *c)
{
    if (call_state(c, sizeof(struct resource_call)))
        call_read(c, get_step, reply_row);
}

/* ---- adding a file ---- */

static int add_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct resource_call *s = c->state;
    int rc = session_find(tx, c, &s->session, err);
    if (!rc)
        rc = session_open_check(&s->session, err);
    if (!rc)
        rc = resources_check_path(&c->arena, s->session.provision, &s->in, err);
    if (!rc)
        rc = resources_make(tx, c, &s->session, &s->in, 1, &s->made, err);
    if (!rc)
        rc = resources_insert(tx, c, s->session.key, s->made, 1, err);
    return rc ? rc : save(tx, c, s, STR_NONE, 1, err);
}

static void write_added(struct call *c, struct buf *out)
{
    const struct resource_call *s = c->state;
    buf_str(out, s->made[0].row.body);
}

void resources_add(struct call *c)
{
    static const struct call_creation how = {add_step, write_added, tell_engine, NULL, NULL};
    struct resource_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (resource_decode_file(&c->arena, c->doc, &s->in, &err))
        call_fail(c, &err);
    else
        call_create(c, &how);
}

/* ---- another token ---- */

/* The members of the stored body, with the time of now. */
static int touch(struct call *c, struct resource_row *row, struct err *err)
{
    const struct json *doc;
    struct buf b = BUF_INIT(65536);
    struct jw w = jw_to(&b);
    if (json_parse(&c->arena, row->body, 0, &doc, err))
        return err_set(err, ERR_CORRUPT, "Resource '%s' cannot be read", row->id.z);
    jw_obj(&w);
    json_for_each (m, doc) {
        jw_key_str(&w, m->key);
        if (str_eqz(m->key, "updated_at"))
            jw_time(&w, row->updated_us);
        else
            jw_raw(&w, m->raw);
    }
    jw_obj_end(&w);
    return compact_keep(&c->arena, &b, &row->body, err);
}

/* The entry of the provision with the new secret. */
static int rotate_entry(struct call *c, const struct resource_call *s, struct str *out,
                        struct err *err)
{
    const struct json *doc, *found = NULL;
    AUTO_BUF struct buf sealed = BUF_INIT(65536);
    struct buf b = BUF_INIT(131072);
    struct jw w = jw_to(&b);
    if (json_parse(&c->arena, s->session.provision, 0, &doc, err) == 0 &&
        json_is(json_get(doc, "repositories"), JSON_ARRAY))
        json_for_each (v, json_get(doc, "repositories"))
            found = str_eq(json_get_str(v, "id"), id_str(&s->row.id)) ? v : found;
    if (!found)
        return err_set(err, ERR_CORRUPT, "the session's resources cannot be read");
    base64url_write(&sealed, s->row.secret);
    jw_obj(&w);
    json_for_each (m, found)
        if (!str_eqz(m->key, "secret") && !str_eqz(m->key, "updated")) {
            jw_key_str(&w, m->key);
            jw_raw(&w, m->raw);
        }
    jw_kstr(&w, "secret", buf_view(&sealed));
    jw_ki64(&w, "updated", s->row.updated_us);
    jw_obj_end(&w);
    return compact_keep(&c->arena, &b, out, err);
}

static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct resource_call *s = c->state;
    int rc = find(tx, c, s, err);
    if (!rc)
        rc = session_open_check(&s->session, err);
    if (!rc && !str_eqz(s->row.kind, "github_repository"))
        return json_fail(err, "", "authorization_token",
                         "Only a repository has a token; a file can be deleted and added again");
    if (!rc)
        rc = secret_seal(c->api->cfg.data_dir, id_str(&s->row.id), s->token, &c->arena,
                         &s->row.secret, err);
    if (rc)
        return rc;
    s->row.updated_us = clock_unix_us();
    s->made = ARENA_ARRAY(&c->arena, struct resource_made, 1);
    if (!s->made)
        return err_set(err, ERR_LIMIT, "the request is too large");
    rc = touch(c, &s->row, err);
    if (!rc)
        rc = rotate_entry(c, s, &s->made->entry, err);
    s->made->row = s->row;
    s->made->repository = true;
    if (!rc)
        rc = tx_resource_update(tx, s->session.key, &s->row, err);
    return rc ? rc : save(tx, c, s, id_str(&s->row.id), 1, err);
}

static void updated(struct call *c)
{
    reply_row(c);
    tell_engine(c);
}

void resources_update(struct call *c)
{
    struct token_in {
        const struct json *token;
    } in;
    static const struct json_field fields[] = {
        JSON_FIELD_ANY(struct token_in, token, "authorization_token", .type = JSON_STRING,
                       .required = true, .min = 1, .max = 8192),
        JSON_FIELD_END};
    struct resource_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    int rc = json_decode(c->doc, fields, &in, sizeof in, "", &err);
    for (size_t i = 0; !rc && i < in.token->str.len; i++)
        if ((unsigned char)in.token->str.ptr[i] < 0x20 || in.token->str.ptr[i] == 0x7f)
            rc = json_fail(&err, "", "authorization_token",
                           "Input should have no control characters");
    if (rc) {
        call_fail(c, &err);
        return;
    }
    s->token = in.token->str;
    call_write(c, update_step, updated);
}

/* ---- taking one away ---- */

/* The entry of a file resource; NULL: there is none. */
static const struct json *file_entry(const struct json *provision, struct str id)
{
    const struct json *files = json_get(provision, "files");
    if (json_is(files, JSON_ARRAY))
        json_for_each (v, files)
            if (str_eq(json_get_str(v, "id"), id))
                return v;
    return NULL;
}

static bool names_content(const struct json *provision, struct str blob)
{
    static const char *const lists[] = {"files", "skills"};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        if (json_is(json_get(provision, lists[i]), JSON_ARRAY))
            json_for_each (v, json_get(provision, lists[i]))
                if (str_eq(json_get_str(v, "blob"), blob))
                    return true;
    return false;
}

/* A sandbox that is just being made by the old provision may miss the content: of a file that
 * nobody wants any more. One that runs has a name of its own for it until the next call. */
static int release_content(struct store_tx *tx, struct call *c, const struct resource_call *s,
                           struct err *err)
{
    const struct json *before, *after;
    if (json_parse(&c->arena, s->session.provision, 0, &before, err) ||
        json_parse(&c->arena, s->provision, 0, &after, err))
        return err_set(err, ERR_CORRUPT, "the session's resources cannot be read");
    struct str blob = json_get_str(file_entry(before, id_str(&s->row.id)), "blob");
    if (blob.len == 0 || names_content(after, blob))
        return 0;
    return tx_session_blob_drop(tx, s->session.key, blob, err);
}

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct resource_call *s = c->state;
    int rc = find(tx, c, s, err);
    if (!rc)
        rc = session_open_check(&s->session, err);
    if (!rc && !str_eqz(s->row.kind, "file"))
        return err_set(err, ERR_INVALID,
                       "Resource '%s' is a repository; only files can be taken from a session",
                       s->row.id.z);
    if (!rc)
        rc = tx_resource_delete(tx, s->session.key, id_str(&s->row.id), err);
    if (rc)
        return rc;
    rc = tx_file_delete(tx, call_workspace(c), id_str(&s->row.file_id), clock_unix_us(), err);
    if (rc && rc != ERR_NOT_FOUND) /* the client may have deleted the copy itself */
        return rc;
    rc = save(tx, c, s, id_str(&s->row.id), 0, err);
    return rc ? rc : release_content(tx, c, s, err);
}

static void deleted(struct call *c)
{
    struct buf b = BUF_INIT(256);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "id", c->id[1]);
    jw_kz(&w, "type", "session_resource_deleted");
    jw_obj_end(&w);
    call_reply(c, &b);
    tell_engine(c);
    file_sweep_kick(c->api->sweep);
}

void resources_delete(struct call *c)
{
    if (call_state(c, sizeof(struct resource_call)))
        call_write(c, delete_step, deleted);
}

/* ---- the list ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct resource_call *s = c->state;
    int rc = session_find(tx, c, &s->session, err);
    return rc ? rc
              : tx_resource_list(tx, s->session.key, &s->list.page, &c->arena, &s->rows, &s->n,
                                 &s->more, err);
}

static void reply_list(struct call *c)
{
    const struct resource_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        jw_raw(w, s->rows[i].body);
    const struct resource_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_RESOURCES};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

void resources_list(struct call *c)
{
    static const struct listing_how how = {CURSOR_RESOURCES, 1000,      1000, false,
                                           list_step,        reply_list};
    struct resource_call *s = call_state(c, sizeof *s);
    if (s)
        listing_serve(c, &how, &s->list);
}
