#include "api/budget_decode.h"

#include "api/compact.h"
#include "base/clock.h"
#include "base/limits.h"
#include "core/budget.h"
#include "json/decode.h"
#include "json/writer.h"

#include <stdio.h>

/* ---- budget ---- */

enum { MICROUSD_PER_CENT = 10000 };

struct money_in {
    struct str amount;
    int currency;
};
struct budget_in {
    int type;
    const struct json *cost;
};

static const char *const types[] = {"limit", NULL};
static const char *const currencies[] = {"USD", NULL};
static const struct json_field budget_fields[] = {
    JSON_FIELD_ENUM(struct budget_in, type, "type", .required = true, .names = types),
    JSON_FIELD_ANY(struct budget_in, cost, "max_list_cost", .required = true, .type = JSON_OBJECT),
    JSON_FIELD_END};
static const struct json_field money_fields[] = {
    JSON_FIELD_STR(struct money_in, amount, "amount", .required = true),
    JSON_FIELD_ENUM(struct money_in, currency, "currency", .required = true, .names = currencies),
    JSON_FIELD_END};

static int decode_cents(struct str s, int64_t *out, struct err *err)
{
    static const char at[] = "/budget/max_list_cost";
    int64_t cents = 0;
    bool digits = s.len > 0;
    for (size_t i = 0; i < s.len; i++)
        digits = digits && s.ptr[i] >= '0' && s.ptr[i] <= '9';
    if (!digits)
        return json_fail(err, at, "amount",
                         "Input should be whole cents in digits: \"2500\" is 25 dollars");
    if (s.ptr[0] == '0')
        return json_fail(err, at, "amount",
                         "Input should be above 0 cents and have no leading zeros");
    if (s.len > LIMIT_BUDGET_DIGITS)
        return json_fail(err, at, "amount", "Input should have at most %d digits",
                         LIMIT_BUDGET_DIGITS);
    for (size_t i = 0; i < s.len; i++)
        cents = cents * 10 + (s.ptr[i] - '0');
    *out = cents * MICROUSD_PER_CENT;
    return 0;
}

int budget_decode(const struct json *v, int64_t *microusd, struct err *err)
{
    struct budget_in in;
    struct money_in money;
    *microusd = 0;
    if (!v || v->type == JSON_NULL)
        return 0;
    if (v->type != JSON_OBJECT)
        return json_fail(err, "", "budget", "Input should be a valid object");
    int rc = json_decode(v, budget_fields, &in, sizeof in, "/budget", err);
    if (!rc)
        rc = json_decode(in.cost, money_fields, &money, sizeof money, "/budget/max_list_cost", err);
    return rc ? rc : decode_cents(money.amount, microusd, err);
}

/* ---- limits ---- */

#define MOST INT64_C(9007199254740991) /* what every client can read back exactly */
#define CAP(member, nm)                                                                            \
    JSON_FIELD_I64(struct caps, member, nm, .nullable = true, .min = 1, .max = MOST)
static const struct json_field limits_fields[] = {
    CAP(max_turns, "max_turns"), CAP(max_tokens, "max_tokens"), CAP(max_seconds, "max_seconds"),
    CAP(max_cost_microusd, "max_cost_microusd"), JSON_FIELD_END};

static void write_cap(struct jw *w, const char *name, int64_t value)
{
    if (value)
        jw_ki64(w, name, value);
}

int limits_decode(struct arena *a, const struct json *v, const char *at, struct str *out,
                  struct err *err)
{
    struct caps caps;
    *out = STR_NONE;
    if (!v || v->type == JSON_NULL)
        return 0;
    if (v->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    int rc = json_decode(v, limits_fields, &caps, sizeof caps, at, err);
    if (rc || (!caps.max_turns && !caps.max_tokens && !caps.max_seconds && !caps.max_cost_microusd))
        return rc;
    struct buf b = BUF_INIT(512);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    write_cap(&w, "max_turns", caps.max_turns);
    write_cap(&w, "max_tokens", caps.max_tokens);
    write_cap(&w, "max_seconds", caps.max_seconds);
    write_cap(&w, "max_cost_microusd", caps.max_cost_microusd);
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}

/* ---- against the model and what was spent ---- */

struct model_facts budget_model_facts(const struct model_port *models, struct str agent)
{
    struct err err;
    const struct json *doc;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    if (!models->facts || json_parse(&a, agent, JSON_ALLOW_DUPLICATES, &doc, &err))
        return (struct model_facts){0};
    const struct json *model = json_get(doc, "model");
    return models->facts(models->self, json_get_str(model, "id"), json_get_str(model, "speed"));
}

static int refuse(struct err *err, const char *field, const char *reason, const char *why)
{
    json_fail(err, "", field, "%s: %s", reason, why);
    err->detail = reason;
    return ERR_INVALID;
}

static int refuse_unpriced(struct err *err, const char *field)
{
    return refuse(err, field, "model_not_budgetable",
                  str_eqz(str_z(field), "budget")
                      ? "the session's model has no list price, so that its cost cannot be capped; "
                        "choose a priced model at standard speed, or leave the budget out"
                      : "the session's model has no list price, so that max_cost_microusd cannot "
                        "be held; choose a priced model at standard speed, or leave it out");
}

int budget_check_create(const struct session_row *row, const struct model_facts *facts,
                        struct err *err)
{
    struct caps caps;
    caps_read(&caps, row->budget_microusd, row->limits);
    if (facts->priced)
        return 0;
    if (caps.budget_microusd)
        return refuse_unpriced(err, "budget");
    return caps.max_cost_microusd ? refuse_unpriced(err, "limits") : 0;
}

static int check_new_budget(const struct session_row *row, const struct model_facts *facts,
                            int64_t microusd, struct err *err)
{
    struct caps caps;
    char why[160];
    caps_read(&caps, row->budget_microusd, row->limits);
    const char *reason = budget_change_refused(&caps, &row->usage, facts, microusd);
    if (!reason)
        return 0;
    if (str_eqz(str_z(reason), "model_not_budgetable"))
        return refuse_unpriced(err, "budget");
    if (str_eqz(str_z(reason), "budget_create_only"))
        return refuse(err, "budget", reason,
                      "a budget cannot be added to a session created without one, nor again after "
                      "it was removed; limits.max_cost_microusd can be set at any time");
    snprintf(why, sizeof why,
             "the session has consumed %lld micro-dollars; max_list_cost must be above that "
             "(1 cent is %d)",
             (long long)row->usage.cost_microusd, MICROUSD_PER_CENT);
    return refuse(err, "budget", reason, why);
}

int budget_check_update(const struct session_row *row, const struct model_facts *facts,
                        const struct engine_change *change, struct err *err)
{
    struct caps now;
    caps_read(&now, 0, change->limits);
    if (change->set_limits && now.max_cost_microusd && !facts->priced)
        return refuse_unpriced(err, "limits");
    return change->set_budget ? check_new_budget(row, facts, change->budget_microusd, err) : 0;
}

/* ---- events at a cap ---- */

static bool taken_at_a_cap(enum event_type type)
{
    return type == EVENT_USER_TOOL_CONFIRMATION || type == EVENT_USER_TOOL_RESULT ||
           type == EVENT_USER_CUSTOM_TOOL_RESULT || type == EVENT_USER_INTERRUPT;
}

/* Too little may be left for a request before all is spent: then the session says that it rests. */
static bool rests_at_a_cap(const struct session_row *row)
{
    return row->status == SESSION_IDLE &&
           str_starts(row->stop_reason, STR("{\"type\":\"budget_reached\""));
}

static const char *cap_of(const struct session_row *row)
{
    struct caps caps;
    caps_read(&caps, row->budget_microusd, row->limits);
    /* While a turn runs, what is sent becomes part of it: no new one begins. */
    const char *cap =
        caps_reached(&caps, &row->usage, row->status == SESSION_IDLE, clock_unix_us());
    if (cap || !rests_at_a_cap(row))
        return cap;
    static const char *const names[] = {"max_turns", "max_tokens", "max_seconds",
                                        "max_cost_microusd"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char named[40];
        snprintf(named, sizeof named, "\"limit\":\"%s\"", names[i]);
        if (str_find(row->stop_reason, str_z(named)) >= 0)
            return names[i];
    }
    return "budget";
}

int budget_check_events(const struct session_row *row, const enum event_type *sent, size_t n,
                        struct err *err)
{
    const char *cap = NULL;
    for (size_t i = 0; i < n; i++) {
        if (taken_at_a_cap(sent[i]))
            continue;
        cap = cap ? cap : cap_of(row);
        if (!cap)
            return 0;
        char where[ERR_AT_MAX];
        json_pointer_index(where, "/events", i);
        return json_fail(err, where, "type",
                         "The session has reached its %s%s; until that is raised or removed by an "
                         "update of the session, only user.tool_confirmation, user.tool_result, "
                         "user.custom_tool_result and user.interrupt are accepted",
                         str_eqz(str_z(cap), "budget") ? "" : "limit ", cap);
    }
    return 0;
}

bool budget_ignores_interrupt(const struct session_row *row)
{
    return rests_at_a_cap(row) && cap_of(row) != NULL;
}
