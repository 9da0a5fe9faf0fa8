#include "api/routes.h"

#include "api/handlers.h"

#include <stdio.h>

#define ENTRY(m, p, b, k, h, t, ...)                                                               \
    {                                                                                              \
        .method = #m, .pattern = p, .beta = BETA_##b, .body = BODY_##k, .handle = h, .takes = t,   \
        __VA_ARGS__                                                                                \
    }
#define ROUTE(m, p, b, k, h) ENTRY(m, p, b, k, h, TAKES_API, .open = false)
#define OWNER(m, p, b, k, h) ENTRY(m, p, b, k, h, TAKES_API, .at_owner = true)
#define EXTRA(m, p, b, k, h)                                                                       \
    ENTRY(m, p, b, k, h, TAKES_API, .extension = true, .at_owner = true) /* ours, at the owner */
#define ALSO(m, p, b, k, h)                                                                        \
    ENTRY(m, p, b, k, h, TAKES_API, .extension = true) /* ours, at any process */
#define OPEN(m, p, b, k, h)                                                                        \
    ENTRY(m, p, b, k, h, 0, .open = true, .extension = true) /* ours, without credential */
#define SHARE(m, p, b, k, h)                                                                       \
    ENTRY(m, p, b, k, h, TAKES_ANY, .open = false) /* with workers, too                            \
                                                    */
#define WORKER TAKES_ENV                           /* a worker, by the key of its environment */
#define HOLDER (TAKES_WORKER | TAKES_STALE)        /* one that has, or had, the item */
#define EITHER (TAKES_API | WORKER)
#define ANYONE (TAKES_API | HOLDER)
#define WORK(m, p, k, h, t) ENTRY(m, p, AGENTS, k, h, t, .open = false)

/* clang-format off */
const struct route route_table[] = {
    ROUTE(POST,   "/v1/agents",                       AGENTS,  JSON,   agents_create),
    ROUTE(GET,    "/v1/agents",                       AGENTS,  NONE,   agents_list),
    ROUTE(GET,    "/v1/agents/{}",                    AGENTS,  NONE,   agents_get),
    ROUTE(POST,   "/v1/agents/{}",                    AGENTS,  JSON,   agents_update),
    ROUTE(POST,   "/v1/agents/{}/archive",            AGENTS,  MAYBE,  agents_archive),
    ROUTE(GET,    "/v1/agents/{}/versions",           AGENTS,  NONE,   agents_versions),
    ROUTE(POST,   "/v1/environments",                 AGENTS,  JSON,   environments_create),
    ROUTE(GET,    "/v1/environments",                 AGENTS,  NONE,   environments_list),
    ROUTE(GET,    "/v1/environments/{}",              AGENTS,  NONE,   environments_get),
    ROUTE(POST,   "/v1/environments/{}",              AGENTS,  JSON,   environments_update),
    ROUTE(DELETE, "/v1/environments/{}",              AGENTS,  MAYBE,  environments_delete),
    ROUTE(POST,   "/v1/environments/{}/archive",      AGENTS,  MAYBE,  environments_archive),
    WORK( GET,    "/v1/environments/{}/work/poll",         NONE,  work_poll,      WORKER),
    WORK( GET,    "/v1/environments/{}/work/stats",        NONE,  work_stats,     EITHER),
    WORK( GET,    "/v1/environments/{}/work",              NONE,  work_list,      WORKER),
    WORK( GET,    "/v1/environments/{}/work/{}",           NONE,  work_get,       TAKES_API),
    WORK( POST,   "/v1/environments/{}/work/{}",           JSON,  work_update,    TAKES_API),
    WORK( POST,   "/v1/environments/{}/work/{}/ack",       MAYBE, work_ack,       HOLDER),
    WORK( POST,   "/v1/environments/{}/work/{}/heartbeat", MAYBE, work_heartbeat, HOLDER),
    WORK( POST,   "/v1/environments/{}/work/{}/stop",      MAYBE, work_stop,      ANYONE),
    ALSO( POST,   "/v1/environments/{}/keys",         NONE,    JSON,   environment_keys_create),
    ALSO( GET,    "/v1/environments/{}/keys",         NONE,    NONE,   environment_keys_list),
    ALSO( DELETE, "/v1/environments/{}/keys/{}",      NONE,    MAYBE,  environment_keys_delete),
    ROUTE(POST,   "/v1/sessions",                     AGENTS,  JSON,   sessions_create),
    ROUTE(GET,    "/v1/sessions",                     AGENTS,  NONE,   sessions_list),
    SHARE(GET,    "/v1/sessions/{}",                  AGENTS,  NONE,   sessions_get),
    OWNER(POST,   "/v1/sessions/{}",                  AGENTS,  JSON,   sessions_update),
    OWNER(DELETE, "/v1/sessions/{}",                  AGENTS,  MAYBE,  sessions_delete),
    OWNER(POST,   "/v1/sessions/{}/archive",          AGENTS,  MAYBE,  sessions_archive),
    SHARE(POST,   "/v1/sessions/{}/events",           AGENTS,  JSON,   events_send),
    SHARE(GET,    "/v1/sessions/{}/events",           AGENTS,  NONE,   events_list),
    SHARE(GET,    "/v1/sessions/{}/events/stream",    AGENTS,  NONE,   events_stream),
    ROUTE(GET,    "/v1/sessions/{}/threads",          THREADS, NONE,   threads_list),
    ROUTE(GET,    "/v1/sessions/{}/threads/{}",       THREADS, NONE,   threads_get),
    OWNER(POST,   "/v1/sessions/{}/resources",        AGENTS,  JSON,   resources_add),
    ROUTE(GET,    "/v1/sessions/{}/resources",        AGENTS,  NONE,   resources_list),
    ROUTE(GET,    "/v1/sessions/{}/resources/{}",     AGENTS,  NONE,   resources_get),
    OWNER(POST,   "/v1/sessions/{}/resources/{}",     AGENTS,  JSON,   resources_update),
    OWNER(DELETE, "/v1/sessions/{}/resources/{}",     AGENTS,  MAYBE,  resources_delete),
    ROUTE(POST,   "/v1/files",                        NONE,    STREAM, files_upload),
    ROUTE(GET,    "/v1/files",                        NONE,    NONE,   files_list),
    ROUTE(GET,    "/v1/files/{}",                     NONE,    NONE,   files_get),
    ROUTE(DELETE, "/v1/files/{}",                     NONE,    MAYBE,  files_delete),
    ROUTE(GET,    "/v1/files/{}/content",             NONE,    NONE,   files_content),
    ROUTE(POST,   "/v1/skills",                       NONE,    STREAM, skills_create),
    ROUTE(GET,    "/v1/skills",                       NONE,    NONE,   skills_list),
    ROUTE(GET,    "/v1/skills/{}",                    NONE,    NONE,   skills_get),
    ROUTE(DELETE, "/v1/skills/{}",                    NONE,    MAYBE,  skills_delete),
    ROUTE(POST,   "/v1/skills/{}/versions",           NONE,    STREAM, skill_versions_create),
    SHARE(GET,    "/v1/skills/{}/versions",           NONE,    NONE,   skill_versions_list),
    SHARE(GET,    "/v1/skills/{}/versions/{}",        NONE,    NONE,   skill_versions_get),
    ROUTE(DELETE, "/v1/skills/{}/versions/{}",        NONE,    MAYBE,  skill_versions_delete),
    SHARE(GET,    "/v1/skills/{}/versions/{}/content", NONE,   NONE,   skill_versions_content),
    ROUTE(GET,    "/v1/models",                       NONE,    NONE,   models_list),
    ROUTE(GET,    "/v1/models/{}",                    NONE,    NONE,   models_get),
    EXTRA(PUT,    "/v1/sessions/{}/workspace",        NONE,    STREAM, workspace_put),
    EXTRA(GET,    "/v1/sessions/{}/workspace",        NONE,    NONE,   workspace_get),
    EXTRA(GET,    "/v1/sessions/{}/workspace.tar",    NONE,    NONE,   workspace_tar),
    EXTRA(GET,    "/v1/sessions/{}/workspace.patch",  NONE,    NONE,   workspace_patch),
    EXTRA(GET,    "/v1/sessions/{}/outputs.tar",      NONE,    NONE,   outputs_tar),
    EXTRA(POST,   "/v1/sessions/{}/fork",             NONE,    MAYBE,  sessions_fork),
    ALSO( GET,    "/v1/sessions/{}/checkpoints",      NONE,    NONE,   checkpoints_list),
    ALSO( GET,    "/v1/sessions/{}/egress",           NONE,    NONE,   egress_list),
    OPEN( GET,    "/healthz",                         NONE,    NONE,   health_get),
    OPEN( GET,    "/metrics",                         NONE,    NONE,   metrics_get),
};
/* clang-format on */

const size_t route_count = sizeof route_table / sizeof route_table[0];

static bool path_fits(const char *pattern, struct str path, struct str ids[ROUTE_IDS_MAX])
{
    struct str want = str_z(pattern);
    size_t n = 0;
    while (str_some(want) && str_some(path)) {
        struct str p = str_split(&want, '/'), s = str_split(&path, '/');
        if (str_eqz(p, "{}")) {
            if (s.len == 0)
                return false;
            ids[n++] = s;
        } else if (!str_eq(p, s)) {
            return false;
        }
    }
    return !str_some(want) && !str_some(path);
}

enum route_match route_find(struct str method, struct str path, const struct route **out,
                            struct str ids[ROUTE_IDS_MAX], char allow[64])
{
    size_t n = 0;
    allow[0] = '\0';
    for (size_t i = 0; i < route_count; i++) {
        const struct route *r = &route_table[i];
        if (!path_fits(r->pattern, path, ids))
            continue;
        if (str_eqz(method, r->method)) {
            *out = r;
            return ROUTE_FOUND;
        }
        int w = snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", r->method);
        n += w > 0 && (size_t)w < 64 - n ? (size_t)w : 0;
    }
    return n ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
}
