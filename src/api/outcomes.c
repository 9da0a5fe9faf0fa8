#include "api/outcomes.h"

#include "api/outcome_decode.h"
#include "api/session_call.h"
#include "api/sources.h"
#include "core/outcome_list.h"
#include "json/decode.h"

bool outcomes_any_file(const struct sent_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_some(events[i].outcome.rubric_file))
            return true;
    return false;
}

static int resolve(struct store_tx *tx, struct call *c, struct sent_event *e, const char *at,
                   struct err *err)
{
    /* A character has at most 4 bytes; one more byte than fits shows that there are more. */
    AUTO_BUF struct buf text = BUF_INIT(4ul * LIMIT_RUBRIC_CHARS + 1);
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("rubric"));
    json_pointer_key(where, where, STR("file_id"));
    int rc =
        source_text(tx, c, e->outcome.rubric_file, 4ll * LIMIT_RUBRIC_CHARS, where, &text, err);
    return rc ? rc : outcome_put_rubric(&c->arena, e, buf_view(&text), at, err);
}

int outcomes_resolve(struct store_tx *tx, struct call *c, struct sent_event *events, size_t n,
                     const char *at, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        char where[ERR_AT_MAX];
        if (!str_some(events[i].outcome.rubric_file))
            continue;
        json_pointer_index(where, at, i);
        int rc = resolve(tx, c, &events[i], where, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int accept_one(struct store_tx *tx, struct call *c, struct session_row *row,
                      const struct sent_event *e, const char *at, struct err *err)
{
    AUTO_BUF struct buf list = BUF_INIT(OUTCOME_LIST_ROOM);
    struct err why;
    if (session_self_hosted(row))
        return json_fail(err, at, "type",
                         "The grader looks at the files of a session's sandbox, and this session's "
                         "are with its workers: outcomes need an environment that is not "
                         "self-hosted");
    buf_str(&list, row->outcomes);
    int rc = outcome_list_define(&list, e->event.body, &why);
    if (rc == ERR_INVALID)
        return json_fail(err, at, "type", "%s", why.msg);
    if (rc) {
        *err = why;
        return rc;
    }
    row->outcomes = arena_str(&c->arena, buf_view(&list));
    return tx_session_outcomes(tx, row->key, row->outcomes, err);
}

int outcomes_accept(struct store_tx *tx, struct call *c, struct session_row *row,
                    const struct sent_event *events, size_t n, const char *at, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char where[ERR_AT_MAX];
        if (events[i].event.type != EVENT_USER_DEFINE_OUTCOME)
            continue;
        json_pointer_index(where, at, i);
        rc = accept_one(tx, c, row, &events[i], where, err);
    }
    return rc;
}
