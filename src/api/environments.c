/* /v1/environments */
#include "api/api_impl.h"
#include "api/compact.h"
#include "api/cursor.h"
#include "api/environment_decode.h"
#include "api/handlers.h"

#include "base/clock.h"
#include "json/writer.h"

struct environment_call {
    struct environment_patch patch;
    struct environment_row row;
    struct listing list;
    struct environment_row *rows;
    size_t n;
    bool more;
};

static void write_environment(struct jw *w, const struct environment_row *row)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "environment");
    compact_members(w, row->body);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_ktime(w, "archived_at", row->archived_us);
    jw_obj_end(w);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct environment_call *s = c->state;
    struct jw w = jw_to(out);
    write_environment(&w, &s->row);
}

static void reply_environment(struct call *c)
{
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    write_answer(c, &b);
    call_reply(c, &b);
}

static int get_row(struct store_tx *tx, struct call *c, struct environment_row *row,
                   struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "env"))
        rc = tx_environment_get(tx, call_workspace(c), c->id[0], &c->arena, row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "Environment '" STR_FMT "' not found",
                       STR_ARG(str_utf8_take(c->id[0], 64)));
    return rc;
}

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    return get_row(tx, c, &s->row, err);
}

void environments_get(struct call *c)
{
    if (call_state(c, sizeof(struct environment_call)))
        call_read(c, get_step, reply_environment);
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = environment_patch_apply(&c->arena, &s->patch, STR_NONE, &s->row.body, err);
    return rc ? rc : tx_environment_insert(tx, call_workspace(c), &s->row, err);
}

void environments_create(struct call *c)
{
    struct environment_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (environment_patch_decode(c->doc, true, &s->patch, &err)) {
        call_fail(c, &err);
        return;
    }
    s->row.id = id_new("env");
    s->row.name = s->patch.name;
    s->row.created_us = s->row.updated_us = clock_unix_us();
    static const struct call_creation how = {create_step, write_answer, NULL, NULL};
    call_create(c, &how);
}

static int archived(const struct environment_row *row, struct err *err)
{
    err_set(err, ERR_INVALID, "Environment '%s' is archived and cannot be updated", row->id.z);
    err->detail = "environment_archived";
    return ERR_INVALID;
}

static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc)
        return rc;
    if (s->row.archived_us)
        return archived(&s->row, err);
    struct str body;
    rc = environment_patch_apply(&c->arena, &s->patch, s->row.body, &body, err);
    if (rc || str_eq(body, s->row.body))
        return rc;
    s->row.body = body;
    if (str_some(s->patch.name))
        s->row.name = s->patch.name;
    s->row.updated_us = clock_unix_us();
    return tx_environment_update(tx, call_workspace(c), &s->row, err);
}

void environments_update(struct call *c)
{
    struct environment_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (environment_patch_decode(c->doc, false, &s->patch, &err))
        call_fail(c, &err);
    else
        call_write(c, update_step, reply_environment);
}

static int archive_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc || s->row.archived_us)
        return rc;
    s->row.archived_us = s->row.updated_us = clock_unix_us();
    return tx_environment_update(tx, call_workspace(c), &s->row, err);
}

void environments_archive(struct call *c)
{
    if (call_state(c, sizeof(struct environment_call)))
        call_write(c, archive_step, reply_environment);
}

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc == 0)
        rc = tx_environment_delete(tx, call_workspace(c), c->id[0], err);
    if (rc == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT,
                       "Environment '%s' is used by a session that is not archived; archive the "
                       "environment instead, or its sessions first",
                       s->row.id.z);
    return rc;
}

static void reply_deleted(struct call *c)
{
    call_reply_deleted(c, "environment_deleted");
}

void environments_delete(struct call *c)
{
    if (call_state(c, sizeof(struct environment_call)))
        call_write(c, delete_step, reply_deleted);
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    return tx_environment_list(tx, call_workspace(c), s->list.include_archived, &s->list.page,
                               &c->arena, &s->rows, &s->n, &s->more, err);
}

static void reply_list(struct call *c)
{
    struct environment_call *s = c->state;
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < s->n; i++)
        write_environment(&w, &s->rows[i]);
    jw_arr_end(&w);
    struct cursor next = {.list = CURSOR_ENVIRONMENTS, .desc = true};
    if (s->n > 0) {
        next.at_us = s->rows[s->n - 1].created_us;
        next.id = id_str(&s->rows[s->n - 1].id);
    }
    listing_cursor(&w, "next_page", s->more && s->n > 0 ? &next : NULL);
    jw_obj_end(&w);
    call_reply(c, &b);
}

void environments_list(struct call *c)
{
    struct environment_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (listing_read(c, CURSOR_ENVIRONMENTS, 20, 100, true, &s->list, &err))
        call_fail(c, &err);
    else
        call_read(c, list_step, reply_list);
}
