/* store: durable state: typed operations inside transactions, one interface for every database.
 *
 * A job (core/ports.h) is a function that runs in a transaction on a store thread: writes on the
 * one writer thread, many to a commit (group commit; each write in its own savepoint), reads on a
 * few reader threads, each on one snapshot. `done` is posted to the loop after the commit is
 * durable. The typed operations below are called only from inside a job. Strings they return live
 * in the arena given to them. All times are unix microseconds; 0 means null.
 */
#ifndef OSTLER_STORE_STORE_H
#define OSTLER_STORE_STORE_H

#include "base/arena.h"
#include "base/id.h"
#include "core/event.h"
#include "core/ports.h"
#include "core/usage.h"

struct loop;
struct store;

struct store_config {
    const char *dir; /* data directory: holds ostler.db, blobs/ */
    int readers;     /* 0: default 2 */
    bool no_fsync;   /* tests only: synchronous=OFF */
};

/* Opens or creates, migrates (each migration in one transaction; PRECONDITION with a message for a
 * database from a newer version), starts the writer. READ_ONLY, NO_SPACE, CORRUPT, IO; CONFLICT
 * when another process keeps the database locked. */
int store_open(struct loop *l, const struct store_config *cfg, struct store **out,
               struct err *err) MUST_USE;
/* Lets queued jobs finish, stops the threads, checkpoints, frees. Blocks; loop thread, at exit.
 * Jobs whose done was not delivered yet are delivered before it returns; jobs that those submit end
 * with CANCELED. */
void store_close(struct store *s);
struct store_port store_port(struct store *s);
void store_stats(const struct store *s, int64_t *commits, int64_t *writes, int64_t *queued);

/* ---- workspaces and keys ---- */
struct key_row {
    struct id id, workspace_id;
    struct str name, workspace_name;
    int64_t created_us, revoked_us;
};
/* Creates on first use. */
int tx_workspace_ensure(struct store_tx *tx, struct str name, int64_t now_us, struct id *out,
                        struct err *err) MUST_USE;
/* `hash` is the SHA-256 of the key. EXISTS when that key is there already. */
int tx_key_add(struct store_tx *tx, const struct key_row *row, const unsigned char hash[32],
               struct err *err) MUST_USE;
/* NOT_FOUND for unknown and revoked keys. */
int tx_key_find(struct store_tx *tx, const unsigned char hash[32], struct arena *a,
                struct key_row *out, struct err *err) MUST_USE;
int tx_key_list(struct store_tx *tx, struct arena *a, struct key_row **out, size_t *n,
                struct err *err) MUST_USE;
int tx_key_revoke(struct store_tx *tx, struct str id, int64_t now_us, struct err *err) MUST_USE;

/* ---- idempotency keys: what a request that creates was answered ---- */
struct idempotency_row {
    unsigned char request[32]; /* hash of what was asked */
    struct str response;       /* what was answered */
    int64_t created_us;
};
/* NOT_FOUND for an unknown name and for an answer older than `since_us`. */
int tx_idempotency_get(struct store_tx *tx, struct str ws, struct str name, int64_t since_us,
                       struct arena *a, struct idempotency_row *out, struct err *err) MUST_USE;
/* Also forgets a few answers older than `since_us`, of any workspace, and the one of this name. */
int tx_idempotency_put(struct store_tx *tx, struct str ws, struct str name, int64_t since_us,
                       const struct idempotency_row *row, struct err *err) MUST_USE;

/* ---- paging, shared by every list ---- */
struct page {
    int64_t limit; /* rows to return; one more is fetched to know whether there is a next */
    bool desc;
    struct str after; /* position of the last row seen: "created_us:id" as store made it */
    bool backward;    /* towards the previous page: `after` is the first row seen; the rows still
                         come in list order */
};
/* The position of a row, for `after`. INVALID at "page" from the lists when `after` is malformed or
 * outside the filter's created_at range; INVALID at "limit" below 1. */
struct str page_position(struct arena *a, int64_t created_us, const struct id *id);

/* ---- agents ---- */
struct agent_row {
    struct id id;
    int64_t version;
    struct str body; /* JSON object of the definition's fields, as served but without id, type,
                        version, created_at, updated_at, archived_at */
    int64_t created_us, updated_us, archived_us;
};
int tx_agent_insert(struct store_tx *tx, struct str ws, const struct agent_row *row,
                    struct err *err) MUST_USE;
/* version 0: the latest. NOT_FOUND also for another workspace's. */
int tx_agent_get(struct store_tx *tx, struct str ws, struct str id, int64_t version,
                 struct arena *a, struct agent_row *out, struct err *err) MUST_USE;
/* Adds row->version (must be latest + 1, else CONFLICT). */
int tx_agent_add_version(struct store_tx *tx, struct str ws, const struct agent_row *row,
                         struct err *err) MUST_USE;
int tx_agent_archive(struct store_tx *tx, struct str ws, struct str id, int64_t now_us,
                     struct err *err) MUST_USE; /* already archived: fine, keeps the first time */
struct agent_filter {
    bool include_archived;
    int64_t created_gte_us, created_lte_us; /* 0: none */
};
/* Up to page->limit rows; *more when the list goes on. */
int tx_agent_list(struct store_tx *tx, struct str ws, const struct agent_filter *f,
                  const struct page *page, struct arena *a, struct agent_row **out, size_t *n,
                  bool *more, struct err *err) MUST_USE;
int tx_agent_versions(struct store_tx *tx, struct str ws, struct str id, const struct page *page,
                      struct arena *a, struct agent_row **out, size_t *n, bool *more,
                      struct err *err) MUST_USE; /* newest first; page->after is a version number */

/* ---- environments ---- */
struct environment_row {
    struct id id;
    struct str name, body; /* JSON object: config, description, metadata, scope, name */
    int64_t created_us, updated_us, archived_us;
};
int tx_environment_insert(struct store_tx *tx, struct str ws, const struct environment_row *row,
                          struct err *err) MUST_USE;
int tx_environment_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                       struct environment_row *out, struct err *err) MUST_USE;
int tx_environment_update(
    struct store_tx *tx, struct str ws, const struct environment_row *row,
    struct err *err) MUST_USE; /* writes name, body, updated_us, archived_us */
/* CONFLICT while a session that is not archived uses it. */
int tx_environment_delete(struct store_tx *tx, struct str ws, struct str id,
                          struct err *err) MUST_USE;
int tx_environment_list(struct store_tx *tx, struct str ws, bool include_archived,
                        const struct page *page, struct arena *a, struct environment_row **out,
                        size_t *n, bool *more, struct err *err) MUST_USE;

/* The bodies of all that are not archived, of any workspace. */
int tx_environment_bodies(struct store_tx *tx, struct arena *a, struct str **out, size_t *n,
                          struct err *err) MUST_USE;

/* ---- builds of environments: one for each content, whichever environments have it ---- */
enum build_state { BUILD_PENDING, BUILD_BUILDING, BUILD_READY, BUILD_FAILED };
const char *build_state_name(enum build_state state);
struct build_row {
    struct str content; /* hash of what it is made from (sandbox/build.h) */
    enum build_state state;
    struct str log_tail;
    int64_t started_us, built_us; /* built_us: the end, also of one that failed */
};
int tx_build_put(struct store_tx *tx, const struct build_row *row, struct err *err) MUST_USE;
/* It is to be built: pending, unless it is under way or ready. */
int tx_build_want(struct store_tx *tx, struct str content, struct err *err) MUST_USE;
int tx_build_get(struct store_tx *tx, struct str content, struct arena *a, struct build_row *out,
                 struct err *err) MUST_USE; /* NOT_FOUND */
int tx_build_delete(struct store_tx *tx, struct str content, struct err *err) MUST_USE;

/* ---- sessions ---- */
enum session_status { SESSION_IDLE, SESSION_RUNNING, SESSION_RESCHEDULING, SESSION_TERMINATED };

struct session_row {
    int64_t key;                           /* internal number; events refer to it */
    struct id id, workspace_id, thread_id; /* thread_id: the primary thread */
    struct id agent_id;
    int64_t agent_version;
    struct id environment_id;
    struct str agent;        /* JSON: the resolved snapshot as served under session.agent */
    struct str environment;  /* JSON: the environment's config as of creation */
    struct str provision;    /* JSON: files, repositories and skills of its sandbox, or absent */
    struct str title;        /* absent: null */
    struct str metadata;     /* JSON object */
    struct str stop_reason;  /* JSON object, or absent */
    struct str limits;       /* JSON object (extension `limits`), or absent */
    int64_t budget_microusd; /* 0: none */
    enum session_status status;
    int64_t created_us, updated_us, archived_us;
    struct session_usage usage;
    int64_t last_seq, last_processed_us;
    int64_t epoch;    /* fencing: bumped by whoever takes the session over */
    struct id owner;  /* the server process that took it last; empty: none did */
    bool has_sandbox; /* a sandbox was provisioned for it */
    bool inbox;       /* accepted events wait to be processed */
    /* The event that a checkpoint of its files is still to be taken for; 0: none. */
    int64_t checkpoint_due;
    struct str forked_from; /* JSON object as served (extension), or absent */
    struct str outcomes;    /* JSON array as served, oldest first, or absent: none */
};

/* Also inserts the primary thread. `row->key` is set. */
int tx_session_insert(struct store_tx *tx, struct session_row *row, struct err *err) MUST_USE;
/* ws absent: any workspace (the engine). */
int tx_session_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                   struct session_row *out, struct err *err) MUST_USE;
struct session_filter {
    struct str agent_id;
    int64_t agent_version; /* 0: any */
    unsigned statuses;     /* bit per session_status; 0: any */
    bool include_archived;
    int64_t created_gt_us, created_gte_us, created_lt_us, created_lte_us;
};
/* Rows without `agent` being re-encoded; *has_prev / *has_next tell about the neighbours. */
int tx_session_list(struct store_tx *tx, struct str ws, const struct session_filter *f,
                    const struct page *page, struct arena *a, struct session_row **out, size_t *n,
                    bool *has_prev, bool *has_next, struct err *err) MUST_USE;
/* Sessions that a server must look after at start: running, rescheduling, or with a waiting inbox.
 * By partial index: costs nothing per idle session. */
int tx_session_active(struct store_tx *tx, struct arena *a, struct id **out, size_t *n,
                      struct err *err) MUST_USE;
/* The same with what there is to know before one is taken; none that are terminated. */
struct session_work {
    struct id id, owner;
    bool inbox;
};
int tx_session_work(struct store_tx *tx, struct arena *a, struct session_work **out, size_t *n,
                    struct err *err) MUST_USE;
/* Who took it last, empty: nobody. ws absent: any workspace. NOT_FOUND. */
int tx_session_owner(struct store_tx *tx, struct str ws, struct str id, struct id *owner,
                     struct err *err) MUST_USE;
/* Counts by status, for /metrics. */
int tx_session_counts(struct store_tx *tx, int64_t counts[4], struct err *err) MUST_USE;
int tx_session_delete(struct store_tx *tx, int64_t key,
                      struct err *err) MUST_USE; /* and all it owns, the files it made too */

/* ---- the inbox: accepted client events not yet processed ---- */
struct inbox_row {
    int64_t number;     /* global order of arrival; set by tx_inbox_add */
    struct event event; /* seq and processed_us 0 */
};
int tx_inbox_add(struct store_tx *tx, int64_t session_key, struct inbox_row *row,
                 struct err *err) MUST_USE;
/* How many events wait, and the bytes of their bodies and transcripts. */
int tx_inbox_size(struct store_tx *tx, int64_t session_key, int64_t *events, int64_t *bytes,
                  struct err *err) MUST_USE;
/* In order; those numbered above `after` (0: all), so that looking for new ones costs what is new.
 * No more than LIMIT_INBOX_READ at once: whoever wants all asks again behind the last. */
int tx_inbox_list(struct store_tx *tx, int64_t session_key, int64_t after, struct arena *a,
                  struct inbox_row **out, size_t *n, struct err *err) MUST_USE;

/* ---- the ledger: what each model request cost; rows outlive their session ---- */
struct ledger_row {
    struct id workspace_id, session_id, thread_id;
    int64_t seq; /* of the event that ends the request's span */
    enum model_purpose purpose;
    struct str model;
    struct model_usage usage;
    int64_t held_microusd; /* reserved for a request whose end nobody saw */
    int64_t at_us;
};
int tx_ledger_add(struct store_tx *tx, const struct ledger_row *row, struct err *err) MUST_USE;
/* Sums over one session; ws and session as given. */
int tx_ledger_session(struct store_tx *tx, struct str session_id, int64_t *cost_microusd,
                      int64_t *held_microusd, int64_t *requests, struct err *err) MUST_USE;

/* ---- the log ---- */
/* One transition of a session, committed as a whole. */
struct session_append {
    int64_t key;
    int64_t epoch;              /* must equal the row's, else FENCED and nothing is written */
    int64_t base_seq;           /* must equal the row's last_seq, else FENCED */
    const struct event *events; /* seq = base_seq + 1, + 2, ...; processed_us increasing */
    size_t nevents;
    const int64_t *inbox_done; /* inbox numbers that these events process: removed */
    size_t ninbox_done;
    bool set_status; /* writes the fields below */
    enum session_status status;
    struct str stop_reason; /* JSON or absent */
    struct session_usage usage;
    int64_t updated_us;
    bool set_sandbox;       /* has_sandbox := true */
    int64_t checkpoint_due; /* the row's, from now on; 0: leave it */
    struct str outcomes;    /* the row's, from now on; absent: leave them */
    bool work; /* the session waits for its self-hosted hands: it has work (store/work.h) */
    const struct ledger_row *ledger;
    size_t nledger;
};
/* session_row.outcomes alone: one was accepted. */
int tx_session_outcomes(struct store_tx *tx, int64_t key, struct str outcomes,
                        struct err *err) MUST_USE;
/* What is stored; nothing is appended where there are none. */
int tx_session_outcomes_read(struct store_tx *tx, int64_t key, struct buf *out,
                             struct err *err) MUST_USE;
int tx_session_append(struct store_tx *tx, const struct session_append *ap,
                      struct err *err) MUST_USE;
/* Takes the session over: epoch + 1. Returns the new epoch. */
int tx_session_take(struct store_tx *tx, int64_t key, int64_t *epoch, struct err *err) MUST_USE;
/* The same for a server process among several: the session becomes `me`'s. CONFLICT, and nothing is
 * written, unless it is nobody's, `me`'s or that of `dead`, who is known to be. */
int tx_session_own(struct store_tx *tx, int64_t key, struct str me, struct str dead, int64_t *epoch,
                   struct err *err) MUST_USE;
/* title/metadata/archived_us/updated_us/agent snapshot/budget/limits of an existing row, by key. */
int tx_session_update(struct store_tx *tx, const struct session_row *row, struct err *err) MUST_USE;

struct event_filter {
    int64_t after_seq;  /* exclusive lower bound (asc) */
    int64_t before_seq; /* exclusive upper bound (desc); 0: none */
    bool desc;
    int64_t limit;                        /* 0: all */
    uint64_t types;                       /* bit per enum event_type; 0: all */
    int64_t gt_us, gte_us, lt_us, lte_us; /* on processed_us; 0: none */
    bool transcript;                      /* fetch private bytes too */
};
int tx_event_list(struct store_tx *tx, int64_t session_key, const struct event_filter *f,
                  struct arena *a, struct event **out, size_t *n, bool *more,
                  struct err *err) MUST_USE;
/* The seq of the newest agent.thread_context_compacted; 0: there is none. By its own index. */
int tx_event_last_compaction(struct store_tx *tx, int64_t session_key, int64_t *seq,
                             struct err *err) MUST_USE;
/* The seq of an event of this session by id; NOT_FOUND. Looks from the newest backwards. */
int tx_event_seq(struct store_tx *tx, int64_t session_key, struct str event_id, int64_t *seq,
                 struct err *err) MUST_USE;

/* ---- files and their contents ---- */
struct file_row {
    struct id id;
    struct id scope_id; /* the session that made it; empty: none */
    struct str filename, mime_type;
    int64_t size_bytes;
    bool downloadable;
    int64_t created_us, expires_us; /* expires_us 0: never */
    struct str blob;                /* name of its content; absent: it expired */
};
/* Counts one more use of the blob, which must be durable (see blob_upload_settle()). */
int tx_file_insert(struct store_tx *tx, struct str ws, const struct file_row *row,
                   struct err *err) MUST_USE;
/* NOT_FOUND also LIMIT_FILE_METADATA_DAYS after it expired. */
int tx_file_get(struct store_tx *tx, struct str ws, struct str id, int64_t now_us, struct arena *a,
                struct file_row *out, struct err *err) MUST_USE;
int tx_file_delete(struct store_tx *tx, struct str ws, struct str id, int64_t now_us,
                   struct err *err) MUST_USE;
struct file_filter {
    struct str scope_id; /* absent: all */
    /* Ids need not exist any more: they sort by time of creation. At most one of both. */
    struct str after;  /* those listed behind it */
    struct str before; /* those listed directly before it; still newest first */
    int64_t limit;
    int64_t now_us;
};
/* Newest first. *more: there are others beyond the page, in the direction of paging. */
int tx_file_list(struct store_tx *tx, struct str ws, const struct file_filter *f, struct arena *a,
                 struct file_row **out, size_t *n, bool *more, struct err *err) MUST_USE;

/* For the sweep. Takes the content of at most `limit` files whose time is over, and as many rows
 * that nobody may read any more; *n is how many of both. */
int tx_file_expire(struct store_tx *tx, int64_t now_us, int64_t limit, int64_t *n,
                   struct err *err) MUST_USE;
/* Whether the above would find something. */
int tx_file_due(struct store_tx *tx, int64_t now_us, bool *due, struct err *err) MUST_USE;
struct blob_row {
    char name[65];
    int64_t changes;
};
/* Contents that no file has any more, at most `limit`. */
int tx_blob_unused(struct store_tx *tx, int64_t limit, struct arena *a, struct blob_row **out,
                   size_t *n, struct err *err) MUST_USE;
/* Forgets one of those, unless it changed since: then *gone is false. */
int tx_blob_forget(struct store_tx *tx, const struct blob_row *row, bool *gone,
                   struct err *err) MUST_USE;
int tx_blob_known(struct store_tx *tx, struct str name, bool *known, struct err *err) MUST_USE;

/* ---- skills ---- */
#define SKILL_PREFIX "skill"
#define SKILL_VERSION_PREFIX "skillver"
#define SKILL_LATEST "latest"

struct skill_row {
    struct id id;
    struct str name;           /* of every version; also of its folder */
    struct str display_name;   /* absent: none was given */
    struct id latest_id;       /* of the newest version; empty: there is none */
    struct str latest_version; /* the same by its number; absent: none */
    int64_t created_us, updated_us;
};
/* Without a version. */
int tx_skill_insert(struct store_tx *tx, struct str ws, const struct skill_row *row,
                    struct err *err) MUST_USE;
int tx_skill_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                 struct skill_row *out, struct err *err) MUST_USE;
int tx_skill_list(struct store_tx *tx, struct str ws, const struct page *page, struct arena *a,
                  struct skill_row **out, size_t *n, bool *more, struct err *err) MUST_USE;
/* INVALID while it has versions. */
int tx_skill_delete(struct store_tx *tx, struct str ws, struct str id, struct err *err) MUST_USE;

struct skill_version_row {
    struct id id, skill_id;
    struct str version; /* digits: microseconds, increasing within a skill */
    struct str name, description, directory;
    struct str blob; /* a tar (skill_pack.h) */
    int64_t created_us;
};
/* Sets row->version; it becomes the skill's latest. The blob is counted, and must be durable (see
 * blob_upload_settle()). */
int tx_skill_version_insert(struct store_tx *tx, struct skill_version_row *row, int64_t size_bytes,
                            struct arena *a, struct err *err) MUST_USE;
/* `which`: a version's id, its number, or SKILL_LATEST. */
int tx_skill_version_get(struct store_tx *tx, struct str ws, struct str skill, struct str which,
                         struct arena *a, struct skill_version_row *out, struct err *err) MUST_USE;
/* Newest first. `below`: the number of the last one seen; absent: from the start. */
int tx_skill_version_list(struct store_tx *tx, struct str ws, struct str skill, struct str below,
                          int64_t limit, struct arena *a, struct skill_version_row **out, size_t *n,
                          bool *more, struct err *err) MUST_USE;
int tx_skill_version_delete(struct store_tx *tx, const struct skill_version_row *row,
                            int64_t now_us, struct err *err) MUST_USE;

/* A content that the session's provision names stays until the session is deleted, whatever becomes
 * of the file or skill it came from. Twice is fine. The blob must be known. */
int tx_session_blob_add(struct store_tx *tx, int64_t session_key, struct str blob,
                        struct err *err) MUST_USE;
/* The provision names it no more. What a checkpoint of the session needs stays. */
int tx_session_blob_drop(struct store_tx *tx, int64_t session_key, struct str blob,
                         struct err *err) MUST_USE;

/* ---- small durable values of the server itself ---- */
int tx_meta_get(struct store_tx *tx, const char *key, struct arena *a, struct str *out,
                struct err *err) MUST_USE; /* absent view when unset */
int tx_meta_put(struct store_tx *tx, const char *key, struct str value, struct err *err) MUST_USE;

#endif
