#include "store/migrate.h"

/* Numbered steps: entry i leads from version i to version i + 1. A step that was released is never
 * edited; a change is a new step. Keep to what SQLite and PostgreSQL share where that is possible.
 *
 * Times are unix microseconds, 0 means null. `event` is ordered by its rowid, so that appends of
 * all sessions go to the end of one b-tree; a table clustered on (session, seq) was three times
 * slower. What changes with every transition (session) is kept apart from what hardly ever does
 * (session_config: snapshots of any size), so that a transition rewrites a small row.
 */
static const char *const steps[] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"

    "CREATE TABLE workspace ("
    " id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, created_us INTEGER NOT NULL);"

    "CREATE TABLE api_key ("
    " id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL REFERENCES workspace(id),"
    " name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,"
    " created_us INTEGER NOT NULL, revoked_us INTEGER NOT NULL);"

    "CREATE TABLE idempotency ("
    " workspace TEXT NOT NULL REFERENCES workspace(id), name TEXT NOT NULL,"
    " request BLOB NOT NULL, response TEXT NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX idempotency_name ON idempotency(workspace, name);"
    "CREATE INDEX idempotency_age ON idempotency(created_us);"

    "CREATE TABLE agent ("
    " key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " workspace TEXT NOT NULL REFERENCES workspace(id), version INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, archived_us INTEGER NOT NULL);"
    "CREATE INDEX agent_list ON agent(workspace, created_us, id);"
    "CREATE TABLE agent_version ("
    " agent INTEGER NOT NULL REFERENCES agent(key) ON DELETE CASCADE, version INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, body TEXT NOT NULL);"
    "CREATE UNIQUE INDEX agent_version_number ON agent_version(agent, version);"

    "CREATE TABLE environment ("
    " id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL REFERENCES workspace(id),"
    " name TEXT NOT NULL, body TEXT NOT NULL,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, archived_us INTEGER NOT NULL);"
    "CREATE INDEX environment_list ON environment(workspace, created_us, id);"

    "CREATE TABLE session ("
    " key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " workspace TEXT NOT NULL REFERENCES workspace(id), thread TEXT NOT NULL,"
    " agent_id TEXT NOT NULL, agent_version INTEGER NOT NULL, environment_id TEXT NOT NULL,"
    " status INTEGER NOT NULL, inbox INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " last_seq INTEGER NOT NULL, last_processed_us INTEGER NOT NULL,"
    " has_sandbox INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, archived_us INTEGER NOT NULL,"
    " input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
    " cache_read_tokens INTEGER NOT NULL, cache_write_5m_tokens INTEGER NOT NULL,"
    " cache_write_1h_tokens INTEGER NOT NULL, cost_microusd INTEGER NOT NULL,"
    " active_us INTEGER NOT NULL, running_since_us INTEGER NOT NULL,"
    " model_requests INTEGER NOT NULL, stop_reason TEXT);"
    "CREATE INDEX session_list ON session(workspace, created_us, id);"
    "CREATE INDEX session_agent ON session(workspace, agent_id, created_us, id);"
    "CREATE INDEX session_environment ON session(environment_id) WHERE archived_us = 0;"
    /* What a server must look after at start; empty when every session is idle. */
    "CREATE INDEX session_active ON session(status, id) WHERE status IN (1, 2) OR inbox > 0;"
    "CREATE INDEX session_terminated ON session(key) WHERE status = 3;"
    "CREATE TABLE session_config ("
    " session INTEGER PRIMARY KEY REFERENCES session(key) ON DELETE CASCADE,"
    " title TEXT, metadata TEXT NOT NULL, agent TEXT NOT NULL, environment TEXT NOT NULL);"

    "CREATE TABLE thread ("
    " key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " parent INTEGER REFERENCES thread(key),"
    " status INTEGER NOT NULL, created_us INTEGER NOT NULL);"
    "CREATE INDEX thread_session ON thread(session);"
    "CREATE INDEX thread_parent ON thread(parent) WHERE parent IS NOT NULL;"

    /* AUTOINCREMENT: a number that was processed is never given out again. */
    "CREATE TABLE inbox ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " id TEXT NOT NULL, type INTEGER NOT NULL, flags INTEGER NOT NULL DEFAULT 0,"
    " actor TEXT, body TEXT NOT NULL, transcript TEXT);"
    "CREATE INDEX inbox_session ON inbox(session, number);"

    "CREATE TABLE event ("
    " key INTEGER PRIMARY KEY,"
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " seq INTEGER NOT NULL, id TEXT NOT NULL, type INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, processed_us INTEGER NOT NULL, actor TEXT, body TEXT NOT NULL);"
    "CREATE UNIQUE INDEX event_seq ON event(session, seq);"
    "CREATE TABLE transcript ("
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " seq INTEGER NOT NULL, body TEXT NOT NULL);"
    "CREATE UNIQUE INDEX transcript_seq ON transcript(session, seq);",

    /* 2: files. blob.refs is the number of files with that content; at 0 the content goes.
     * `changes` grows with each change of it, so that whoever has seen a row at 0 knows it again. A
     * file whose time is over keeps its row for a while, without content. Ids sort by time. */
    "CREATE TABLE blob ("
    " name TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, refs INTEGER NOT NULL,"
    " changes INTEGER NOT NULL);"
    "CREATE INDEX blob_unused ON blob(name) WHERE refs = 0;"
    "CREATE TABLE file ("
    " id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL REFERENCES workspace(id), scope TEXT,"
    " filename TEXT NOT NULL, mime_type TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
    " downloadable INTEGER NOT NULL, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,"
    " blob TEXT REFERENCES blob(name));"
    "CREATE INDEX file_list ON file(workspace, id);"
    "CREATE INDEX file_scope ON file(scope, id) WHERE scope IS NOT NULL;"
    "CREATE INDEX file_blob ON file(blob) WHERE blob IS NOT NULL;"
    "CREATE INDEX file_expires ON file(expires_us) WHERE expires_us > 0 AND blob IS NOT NULL;"
    "CREATE INDEX file_expired ON file(expires_us) WHERE expires_us > 0 AND blob IS NULL;",

    /* 3: budgets and limits; what each model request cost, which outlives its session; the server
     * processes that share the database. */
    "ALTER TABLE session ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE session ADD COLUMN held_microusd INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE session ADD COLUMN budget_microusd INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE session ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE session_config ADD COLUMN limits TEXT;"
    "CREATE TABLE ledger ("
    " workspace TEXT NOT NULL REFERENCES workspace(id), session TEXT NOT NULL,"
    " thread TEXT NOT NULL, seq INTEGER NOT NULL, purpose INTEGER NOT NULL, model TEXT NOT NULL,"
    " input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
    " cache_read_tokens INTEGER NOT NULL, cache_write_5m_tokens INTEGER NOT NULL,"
    " cache_write_1h_tokens INTEGER NOT NULL, cost_microusd INTEGER NOT NULL,"
    " held_microusd INTEGER NOT NULL, at_us INTEGER NOT NULL);"
    "CREATE INDEX ledger_session ON ledger(session, seq);"
    "CREATE INDEX ledger_time ON ledger(workspace, at_us);"
    "CREATE TABLE owner ("
    " id TEXT NOT NULL UNIQUE, host TEXT NOT NULL, url TEXT NOT NULL,"
    " started_us INTEGER NOT NULL, until_us INTEGER NOT NULL);",

    /* 4: what sandboxes are given. A skill's version is a tar in a blob. session_config.provision
     * is what the sandbox of a session is made with, as sandbox/ reads it; a session's resources
     * are what clients see of it. A build is what an environment's content led to, by its hash. */
    "CREATE TABLE skill ("
    " id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL REFERENCES workspace(id),"
    " name TEXT NOT NULL, display_name TEXT NOT NULL, latest TEXT NOT NULL,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL);"
    "CREATE INDEX skill_list ON skill(workspace, created_us, id);"
    "CREATE TABLE skill_version ("
    " id TEXT NOT NULL UNIQUE, skill TEXT NOT NULL REFERENCES skill(id) ON DELETE CASCADE,"
    " version TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL,"
    " directory TEXT NOT NULL, blob TEXT NOT NULL REFERENCES blob(name),"
    " created_us INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX skill_version_list ON skill_version(skill, version);"
    "CREATE INDEX skill_version_blob ON skill_version(blob);"
    "ALTER TABLE session_config ADD COLUMN provision TEXT;"
    "ALTER TABLE session ADD COLUMN web_searches INTEGER NOT NULL DEFAULT 0;"
    /* Contents that a session's provision names: they stay as long as the session does. */
    "CREATE TABLE session_blob ("
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " blob TEXT NOT NULL REFERENCES blob(name));"
    "CREATE UNIQUE INDEX session_blob_use ON session_blob(session, blob);"
    "CREATE INDEX session_blob_name ON session_blob(blob);"
    "CREATE TABLE session_resource ("
    " id TEXT NOT NULL UNIQUE,"
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " kind TEXT NOT NULL, body TEXT NOT NULL, secret BLOB, file TEXT,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL);"
    "CREATE INDEX session_resource_list ON session_resource(session, created_us, id);"
    "CREATE TABLE environment_build ("
    " content TEXT NOT NULL UNIQUE, state TEXT NOT NULL, log_tail TEXT NOT NULL,"
    " started_us INTEGER NOT NULL, built_us INTEGER NOT NULL);"
    "CREATE TABLE egress (number INTEGER PRIMARY KEY,"
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " tool_use TEXT, at_us INTEGER NOT NULL, duration_us INTEGER NOT NULL, protocol TEXT NOT NULL,"
    " host TEXT NOT NULL, port INTEGER NOT NULL, address TEXT, decision TEXT NOT NULL,"
    " reason TEXT, bytes_up INTEGER NOT NULL, bytes_down INTEGER NOT NULL);"
    "CREATE INDEX egress_session ON egress(session, number);"
    /* Where the loop reads a log from: the newest compaction of a session (type 15). */
    "CREATE INDEX event_compacted ON event(session, seq) WHERE type = 15;",

    /* 5: the files of sessions over time, and hands that run elsewhere. A checkpoint holds the
     * files as of an event of the log (`seq`); session_blob.seq is the checkpoint that first needed
     * that content (0: what the session is made with), so that a branch takes what it needs.
     * session.checkpoint_due is the event that a checkpoint is still to be taken for.
     * A work item is a session's turn on the queue of its self-hosted environment: one at a time is
     * not stopped (state 4). It outlives its session, so that the worker who has it learns. Each
     * offer is a generation: tokens of older ones open nothing. `trouble` is what the session's log
     * still has to be told. What waits in an inbox is counted from an index. */
    "ALTER TABLE session ADD COLUMN checkpoint_due INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE session_config ADD COLUMN forked_from TEXT;"
    "ALTER TABLE session_config ADD COLUMN outcomes TEXT;" /* as served */
    "DROP INDEX session_active;"
    "CREATE INDEX session_active ON session(status, id)"
    " WHERE status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0;"
    "ALTER TABLE inbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;"
    "UPDATE inbox SET bytes = length(CAST(body AS BLOB))"
    " + coalesce(length(CAST(transcript AS BLOB)), 0);"
    "CREATE INDEX inbox_bytes ON inbox(session, bytes);"
    "ALTER TABLE session_blob ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE checkpoint ("
    " session INTEGER NOT NULL REFERENCES session(key) ON DELETE CASCADE,"
    " seq INTEGER NOT NULL, turn_end INTEGER NOT NULL,"
    " manifest TEXT NOT NULL REFERENCES blob(name), at_us INTEGER NOT NULL,"
    " files INTEGER NOT NULL, size_bytes INTEGER NOT NULL, stored_bytes INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX checkpoint_seq ON checkpoint(session, seq);"
    "CREATE INDEX checkpoint_manifest ON checkpoint(manifest);"
    "CREATE TABLE environment_key ("
    " id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL REFERENCES workspace(id),"
    " environment TEXT NOT NULL REFERENCES environment(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, created_us INTEGER NOT NULL);"
    "CREATE INDEX environment_key_list ON environment_key(environment, created_us, id);"
    "CREATE TABLE work_item ("
    " key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " workspace TEXT NOT NULL REFERENCES workspace(id),"
    " environment TEXT NOT NULL REFERENCES environment(id) ON DELETE CASCADE,"
    " session INTEGER REFERENCES session(key) ON DELETE SET NULL, session_id TEXT NOT NULL,"
    " state INTEGER NOT NULL, metadata TEXT NOT NULL, worker TEXT,"
    " generation INTEGER NOT NULL, failures INTEGER NOT NULL, trouble INTEGER NOT NULL,"
    " offered_us INTEGER NOT NULL, ttl_us INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, queued_us INTEGER NOT NULL, acknowledged_us INTEGER NOT NULL,"
    " started_us INTEGER NOT NULL, heartbeat_us INTEGER NOT NULL,"
    " heartbeat_before_us INTEGER NOT NULL, lease_until_us INTEGER NOT NULL,"
    " stop_requested_us INTEGER NOT NULL, stopped_us INTEGER NOT NULL);"
    "CREATE INDEX work_list ON work_item(environment, created_us, id);"
    "CREATE INDEX work_queue ON work_item(environment, key) WHERE state = 0;"
    "CREATE INDEX work_lease ON work_item(lease_until_us) WHERE state IN (1, 2, 3);"
    "CREATE UNIQUE INDEX work_open ON work_item(session) WHERE state <> 4;"
    "CREATE INDEX work_session ON work_item(session) WHERE session IS NOT NULL;"
    "CREATE INDEX work_trouble ON work_item(key) WHERE trouble <> 0;"
    "CREATE INDEX work_stopped ON work_item(stopped_us) WHERE state = 4;"
    "CREATE TABLE work_token ("
    " hash BLOB NOT NULL UNIQUE,"
    " item INTEGER NOT NULL REFERENCES work_item(key) ON DELETE CASCADE,"
    " generation INTEGER NOT NULL);"
    "CREATE INDEX work_token_item ON work_token(item, generation);",
};

int64_t migrate_known(void)
{
    return (int64_t)COUNT_OF(steps);
}

static int run_step(struct db *db, int64_t from, struct err *err)
{
    int rc = db->ops->begin(db, true, err);
    if (rc)
        return rc;
    /* Another process may have done this step while we waited for the lock. */
    int64_t now = 0;
    rc = db->ops->version(db, &now, err);
    if (rc == 0 && now == from) {
        rc = db->ops->script(db, steps[from], err);
        if (rc == 0)
            rc = db->ops->set_version(db, from + 1, err);
    }
    if (rc == 0)
        rc = db->ops->commit(db, err);
    if (rc)
        db->ops->rollback(db);
    return rc;
}

int migrate_run(struct db *db, const char *path, struct err *err)
{
    const int64_t ours = migrate_known();
    for (;;) {
        int64_t version = 0;
        int rc = db->ops->version(db, &version, err);
        if (rc)
            return rc;
        if (version > ours)
            return err_set(err, ERR_PRECONDITION,
                           "%s was written by a newer ostler (schema %lld, this one knows %lld); "
                           "use that version or another data directory",
                           path, (long long)version, (long long)ours);
        if (version == ours)
            return 0;
        rc = run_step(db, version, err);
        if (rc)
            return rc;
    }
}
