/* /v1/agents */
#include "api/agent_decode.h"
#include "api/api_impl.h"
#include "api/compact.h"
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/skill_refs.h"

#include "base/clock.h"
#include "base/limits.h"
#include "json/writer.h"

struct agent_call {
    struct agent_patch patch;
    struct agent_row row;
    struct listing list;
    struct agent_row *rows;
    size_t n;
    bool more;
    int64_t version;
};

/* ---- responses ---- */

/* The stored body's members go between what identifies the agent and its times, copied as they are.
 */
static void write_agent(struct jw *w, const struct agent_row *row)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "agent");
    jw_ki64(w, "version", row->version);
    compact_members(w, row->body);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_ktime(w, "archived_at", row->archived_us);
    jw_obj_end(w);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct agent_call *s = c->state;
    struct jw w = jw_to(out);
    write_agent(&w, &s->row);
}

static void reply_agent(struct call *c)
{
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    write_answer(c, &b);
    call_reply(c, &b);
}

static void reply_list(struct call *c)
{
    struct agent_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        write_agent(w, &s->rows[i]);
    const struct agent_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = s->version ? CURSOR_VERSIONS : CURSOR_AGENTS, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.number = last->version;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

/* ---- finding one ---- */

static int no_agent(struct call *c, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Agent '" STR_FMT "' not found",
                   STR_ARG(str_utf8_take(c->id[0], 64)));
}

static int get_row(struct store_tx *tx, struct call *c, int64_t version, struct agent_row *row,
                   struct err *err)
{
    if (!id_valid(c->id[0], "agent"))
        return no_agent(c, err);
    int rc = tx_agent_get(tx, call_workspace(c), c->id[0], version, &c->arena, row, err);
    if (rc == ERR_NOT_FOUND && version)
        return err_at(err, ERR_NOT_FOUND, "version",
                      "Agent '" STR_FMT "' has no version %lld, or does not exist",
                      STR_ARG(str_utf8_take(c->id[0], 64)), (long long)version);
    return rc == ERR_NOT_FOUND ? no_agent(c, err) : rc;
}

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    return get_row(tx, c, s->version, &s->row, err);
}

void agents_get(struct call *c)
{
    struct agent_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (query_i64(&c->query, "version", 1, INT64_MAX, &s->version, &err))
        call_fail(c, &err);
    else
        call_read(c, get_step, reply_agent);
}

/* ---- create and update ---- */

/* Skills are looked up when they are named, not when something else changes. */
static int build(struct store_tx *tx, struct call *c, struct agent_def *def, struct err *err)
{
    struct agent_call *s = c->state;
    struct skill_refs skills;
    int rc = agent_patch_apply(&c->arena, &s->patch, def, err);
    if (!rc && str_some(s->patch.skills))
        rc =
            skill_refs_find(tx, call_workspace(c), def->skills, "/skills", &c->arena, &skills, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 4ul);
    agent_def_write(def, &b);
    return compact_keep(&c->arena, &b, &s->row.body, err);
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    struct agent_def def = {0};
    int rc = build(tx, c, &def, err);
    return rc ? rc : tx_agent_insert(tx, call_workspace(c), &s->row, err);
}

void agents_create(struct call *c)
{
    struct agent_call *s = call_state(c, sizeof *s);
    struct model_rules rules;
    struct err err;
    if (!s)
        return;
    if (agent_patch_decode(&c->arena, c->doc, AGENT_CREATE, "", call_model_rules(c, &rules),
                           &s->patch, &err)) {
        call_fail(c, &err);
        return;
    }
    s->row.id = id_new("agent");
    s->row.version = 1;
    s->row.created_us = s->row.updated_us = clock_unix_us();
    static const struct call_creation how = {create_step, write_answer, NULL, NULL, NULL};
    call_create(c, &how);
}

/* An update that changes nothing makes no version; a version precondition is checked even then. */
static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    struct agent_def def;
    int rc = get_row(tx, c, 0, &s->row, err);
    if (rc)
        return rc;
    if (s->row.archived_us)
        return err_set(err, ERR_INVALID, "Agent '%s' is archived and cannot be updated",
                       s->row.id.z);
    if (s->patch.version && s->patch.version != s->row.version)
        return err_at(err, ERR_CONFLICT, "/version",
                      "version: The agent is at version %lld; read it again and repeat the update",
                      (long long)s->row.version);
    struct str before = s->row.body;
    rc = agent_def_read(&c->arena, before, &def, err);
    if (rc == 0)
        rc = build(tx, c, &def, err);
    if (rc || str_eq(before, s->row.body))
        return rc;
    s->row.version++;
    int64_t now = clock_unix_us();
    s->row.updated_us = now > s->row.updated_us ? now : s->row.updated_us + 1;
    return tx_agent_add_version(tx, call_workspace(c), &s->row, err);
}

void agents_update(struct call *c)
{
    struct agent_call *s = call_state(c, sizeof *s);
    struct model_rules rules;
    struct err err;
    if (!s)
        return;
    if (agent_patch_decode(&c->arena, c->doc, AGENT_UPDATE, "", call_model_rules(c, &rules),
                           &s->patch, &err))
        call_fail(c, &err);
    else
        call_write(c, update_step, reply_agent);
}

static int archive_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    int rc = get_row(tx, c, 0, &s->row, err);
    if (rc == 0)
        rc = tx_agent_archive(tx, call_workspace(c), c->id[0], clock_unix_us(), err);
    return rc ? rc : get_row(tx, c, 0, &s->row, err);
}

void agents_archive(struct call *c)
{
    if (call_state(c, sizeof(struct agent_call)))
        call_write(c, archive_step, reply_agent);
}

/* ---- lists ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    const struct time_range *r = &s->list.range;
    struct agent_filter f = {s->list.include_archived, r->gte, r->lte};
    /* The API has no exclusive bounds here; being asked for them is no reason to fail. */
    if (r->gt && r->gt + 1 > f.created_gte_us)
        f.created_gte_us = r->gt + 1;
    if (r->lt && (f.created_lte_us == 0 || r->lt - 1 < f.created_lte_us))
        f.created_lte_us = r->lt > 1 ? r->lt - 1 : 1;
    return tx_agent_list(tx, call_workspace(c), &f, &s->list.page, &c->arena, &s->rows, &s->n,
                         &s->more, err);
}

void agents_list(struct call *c)
{
    static const struct listing_how how = {CURSOR_AGENTS, 20, 100, true, list_step, reply_list};
    struct agent_call *s = call_state(c, sizeof *s);
    if (s)
        listing_serve(c, &how, &s->list);
}

static int versions_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct agent_call *s = c->state;
    int rc = get_row(tx, c, 0, &s->row, err);
    return rc ? rc
              : tx_agent_versions(tx, call_workspace(c), c->id[0], &s->list.page, &c->arena,
                                  &s->rows, &s->n, &s->more, err);
}

void agents_versions(struct call *c)
{
    static const struct listing_how how = {CURSOR_VERSIONS, 20,        100, true,
                                           versions_step,   reply_list};
    struct agent_call *s = call_state(c, sizeof *s);
    if (!s)
        return;
    s->version = 1; /* a list of versions: tells reply_list which cursor to make */
    listing_serve(c, &how, &s->list);
}
