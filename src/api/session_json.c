#include "api/session_json.h"

const char *const session_status_names[] = {
    [SESSION_IDLE] = "idle",
    [SESSION_RUNNING] = "running",
    [SESSION_RESCHEDULING] = "rescheduling",
    [SESSION_TERMINATED] = "terminated",
    NULL,
};

const char *session_status_name(enum session_status s)
{
    return session_status_names[s];
}

enum session_status session_status_shown(const struct session_row *row)
{
    /* While a call waits for its client, or the session for a higher cap, queued messages wait with
     * it: that is no work in progress. */
    bool waits = str_starts(row->stop_reason, STR("{\"type\":\"requires_action\"")) ||
                 str_starts(row->stop_reason, STR("{\"type\":\"budget_reached\""));
    bool due = row->status == SESSION_IDLE && row->inbox && !row->archived_us && !waits;
    return due ? SESSION_RUNNING : row->status;
}

static double duration(const struct session_row *row, int64_t now_us)
{
    int64_t end = row->status == SESSION_TERMINATED ? row->updated_us : now_us;
    return end > row->created_us ? (double)(end - row->created_us) / 1e6 : 0;
}

static void write_stats(struct jw *w, const struct session_row *row, int64_t now_us, bool thread)
{
    jw_key(w, "stats");
    jw_obj(w);
    jw_key(w, "active_seconds");
    usage_seconds_write(w, usage_active_seconds(&row->usage, now_us));
    jw_key(w, "duration_seconds");
    usage_seconds_write(w, duration(row, now_us));
    if (thread)
        jw_ki64(w, "startup_seconds", 0);
    jw_obj_end(w);
}

static struct str object_or_null(struct str s)
{
    return s.len ? s : STR_NONE;
}

/* What clients see of the provision. */
static void write_resources(struct jw *w, const struct session_row *row)
{
    AUTO_ARENA struct arena a;
    const struct json *doc = NULL;
    arena_init(&a, row->provision.len * 64 + 65536);
    if (row->provision.len && json_parse(&a, row->provision, 0, &doc, NULL))
        doc = NULL;
    const struct json *list = json_get(doc, "resources");
    jw_kraw(w, "resources", json_is(list, JSON_ARRAY) ? list->raw : STR("[]"));
}

void session_write(struct jw *w, const struct session_row *row, int64_t now_us)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "session");
    jw_kz(w, "status", session_status_name(session_status_shown(row)));
    jw_kstr(w, "title", row->title);
    jw_kraw(w, "agent", row->agent);
    jw_kstr(w, "environment_id", id_str(&row->environment_id));
    jw_kraw(w, "metadata", row->metadata.len ? row->metadata : STR("{}"));
    write_resources(w, row);
    jw_kraw(w, "vault_ids", STR("[]"));
    jw_kraw(w, "outcome_evaluations", row->outcomes.len ? row->outcomes : STR("[]"));
    jw_key(w, "budget");
    usage_budget_write(w, row->budget_microusd);
    if (row->limits.len)
        jw_kraw(w, "limits", row->limits);
    jw_knull(w, "deployment_id");
    jw_kraw(w, "stop_reason", object_or_null(row->stop_reason));
    write_stats(w, row, now_us, false);
    jw_key(w, "usage");
    usage_write(w, &row->usage, now_us);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_ktime(w, "archived_at", row->archived_us);
    if (str_some(row->forked_from))
        jw_kraw(w, "forked_from", row->forked_from);
    jw_obj_end(w);
}

void session_thread_write(struct jw *w, const struct session_row *row, struct str agent,
                          int64_t now_us)
{
    bool moved = row->last_seq > 0, rested = moved && row->usage.active_us > 0;
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->thread_id));
    jw_kz(w, "type", "session_thread");
    jw_kstr(w, "session_id", id_str(&row->id));
    jw_knull(w, "parent_thread_id");
    jw_knull(w, "workflow_run_id");
    jw_kz(w, "status", session_status_name(session_status_shown(row)));
    jw_kraw(w, "stop_reason", object_or_null(row->stop_reason));
    jw_kraw(w, "agent", agent);
    if (moved)
        write_stats(w, row, now_us, true);
    else
        jw_knull(w, "stats");
    jw_key(w, "usage");
    if (rested)
        usage_write(w, &row->usage, now_us);
    else
        jw_null(w);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_ktime(w, "archived_at", row->archived_us);
    jw_obj_end(w);
}
