/* /v1/environments/{id}/keys: what workers of a self-hosted environment say who they are with. */
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/rand.h"
#include "json/decode.h"

#include <stdio.h>

enum { KEY_RANDOM = 24, KEY_NAME_CHARS = 64 };

struct keys_call {
    struct environment_key_row row, *rows;
    size_t n;
    bool more;
    struct listing list;
    unsigned char hash[32];
    char key[sizeof ENVIRONMENT_KEY_PREFIX + 2 * KEY_RANDOM];
};

static int no_environment(struct call *c, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Environment '" STR_FMT "' not found",
                   STR_ARG(str_utf8_take(c->id[0], 64)));
}

static int find_environment(struct store_tx *tx, struct call *c, struct environment_row *row,
                            struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "env"))
        rc = tx_environment_get(tx, call_workspace(c), c->id[0], &c->arena, row, err);
    return rc == ERR_NOT_FOUND ? no_environment(c, err) : rc;
}

static void write_key(struct jw *w, const struct environment_key_row *row, const char *key)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "environment_key");
    jw_kstr(w, "name", row->name);
    if (key)
        jw_kz(w, "key", key);
    jw_ktime(w, "created_at", row->created_us);
    jw_obj_end(w);
}

/* ---- creating ---- */

struct create_in {
    struct str name;
};
static const struct json_field create_fields[] = {JSON_FIELD_STR(struct create_in, name, "name",
                                                                 .required = true, .min = 1,
                                                                 .max = KEY_NAME_CHARS),
                                                  JSON_FIELD_END};

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct keys_call *s = c->state;
    struct environment_row env;
    const struct json *doc;
    int rc = find_environment(tx, c, &env, err);
    if (rc)
        return rc;
    rc = json_parse(&c->arena, env.body, 0, &doc, err);
    if (rc)
        return err_set(err, ERR_CORRUPT, "Environment '%s' cannot be read", env.id.z);
    if (!str_eqz(json_get_str(json_get(doc, "config"), "type"), "self_hosted"))
        return err_set(err, ERR_INVALID,
                       "Environment '%s' is not self-hosted: no worker asks for its work",
                       env.id.z);
    s->row.environment_id = env.id;
    return tx_environment_key_add(tx, &s->row, s->hash, err);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct keys_call *s = c->state;
    struct jw w = jw_to(out);
    write_key(&w, &s->row, s->key);
}

static void write_kept(struct call *c, struct buf *out)
{
    const struct keys_call *s = c->state;
    struct jw w = jw_to(out);
    write_key(&w, &s->row, NULL);
}

void environment_keys_create(struct call *c)
{
    static const struct call_creation how = {
        .step = create_step, .write = write_answer, .keep = write_kept};
    struct keys_call *s = call_state(c, sizeof *s);
    unsigned char raw[KEY_RANDOM];
    struct create_in in;
    struct err err;
    if (!s)
        return;
    if (json_decode(c->doc, create_fields, &in, sizeof in, "", &err)) {
        call_fail(c, &err);
        return;
    }
    rand_fill(raw, sizeof raw);
    memcpy(s->key, ENVIRONMENT_KEY_PREFIX, sizeof ENVIRONMENT_KEY_PREFIX);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(s->key + sizeof ENVIRONMENT_KEY_PREFIX - 1 + 2 * i, 3, "%02x", raw[i]);
    api_hash_key(str_z(s->key), s->hash);
    s->row = (struct environment_key_row){.id = id_new("ekey"),
                                          .workspace_id = c->workspace_id,
                                          .name = in.name,
                                          .created_us = clock_unix_us()};
    call_create(c, &how);
}

/* ---- listing ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct keys_call *s = c->state;
    struct environment_row env;
    int rc = find_environment(tx, c, &env, err);
    return rc ? rc
              : tx_environment_key_list(tx, c->id[0], &s->list.page, &c->arena, &s->rows, &s->n,
                                        &s->more, err);
}

static void reply_list(struct call *c)
{
    const struct keys_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        write_key(w, &s->rows[i], NULL);
    const struct environment_key_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_ENVIRONMENT_KEYS, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

void environment_keys_list(struct call *c)
{
    static const struct listing_how how = {
        CURSOR_ENVIRONMENT_KEYS, 20, 100, true, list_step, reply_list};
    struct keys_call *s = call_state(c, sizeof *s);
    if (s)
        listing_serve(c, &how, &s->list);
}

/* ---- deleting ---- */

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_row env;
    int rc = find_environment(tx, c, &env, err);
    if (rc)
        return rc;
    rc = ERR_NOT_FOUND;
    if (id_valid(c->id[1], "ekey"))
        rc = tx_environment_key_delete(tx, c->id[0], c->id[1], err);
    return rc == ERR_NOT_FOUND ? err_set(err, rc, "Environment key '" STR_FMT "' not found",
                                         STR_ARG(str_utf8_take(c->id[1], 64)))
                               : rc;
}

/* It is refused here at once, in other processes within the age of what they remember. */
static void deleted(struct call *c)
{
    memset(&c->api->keys, 0, sizeof c->api->keys);
    c->id[0] = c->id[1];
    call_reply_deleted(c, "environment_key_deleted");
}

void environment_keys_delete(struct call *c)
{
    if (call_state(c, sizeof(struct keys_call)))
        call_write(c, delete_step, deleted);
}
