/* What a request says before its body, as the API reads it: "METHOD target" on the first line, then
 * anthropic-beta, content-type, idempotency-key, x-api-key, authorization, a filename. */
#include "api/cursor.h"
#include "api/file_name.h"
#include "api/header.h"
#include "api/query.h"
#include "api/routes.h"
#include "base/clock.h"
#include "base/id.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void must_say(int rc, const struct err *err)
{
    must(rc == 0 || rc == ERR_INVALID || rc == ERR_LIMIT);
    must(rc == 0 || (err->code == rc && err->msg[0] && str_utf8(str_z(err->msg))));
}

/* The pattern with the ids put in is the path again. */
static void check_found(const struct route *r, struct str path, const struct str *ids)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    size_t n = 0;
    for (const char *p = r->pattern; *p; p++) {
        if (p[0] == '{' && p[1] == '}') {
            must(ids[n].len > 0 && str_find_ch(ids[n], '/') < 0);
            buf_str(&b, ids[n++]);
            p++;
        } else {
            buf_ch(&b, *p);
        }
    }
    must(str_eq(buf_view(&b), path));
}

static void check_route(struct arena *a, struct str method, struct str path)
{
    const struct route *r = NULL;
    struct str ids[ROUTE_IDS_MAX] = {{0}};
    char allow[64];
    enum route_match match = route_find(method, path, &r, ids, allow);
    must((match == ROUTE_NO_METHOD) == (allow[0] != '\0') || match == ROUTE_FOUND);
    if (match != ROUTE_FOUND)
        return;
    must(str_eqz(method, r->method));
    check_found(r, path, ids);
    for (size_t i = 0; i < ROUTE_IDS_MAX; i++) {
        struct str id;
        struct err err;
        int rc = http_decode(a, ids[i], false, &id, &err);
        must_say(rc, &err);
        if (rc == 0 && id_valid(id, "sesn")) {
            struct id kept = id_from(id);
            must(str_eq(id_str(&kept), id));
        }
    }
}

static void check_cursor(struct arena *a, struct str text)
{
    static const enum cursor_list lists[] = {CURSOR_AGENTS,   CURSOR_VERSIONS, CURSOR_ENVIRONMENTS,
                                             CURSOR_SESSIONS, CURSOR_EVENTS,   CURSOR_FILES};
    for (size_t i = 0; i < 2 * COUNT_OF(lists); i++) {
        struct cursor c, again;
        struct err err;
        int rc = cursor_read(a, text, lists[i / 2], i & 1, &c, &err);
        must_say(rc, &err);
        if (rc)
            continue;
        AUTO_BUF struct buf b = BUF_INIT(4096);
        cursor_write(&b, &c);
        must(buf_ok(&b));
        /* Written again it may be longer only where leading zeros were left out. */
        must(cursor_read(a, buf_view(&b), lists[i / 2], i & 1, &again, &err) == 0);
        must(again.desc == c.desc && again.backward == c.backward && again.at_us == c.at_us &&
             again.number == c.number && again.inbox == c.inbox && str_eq(again.id, c.id));
    }
}

static void check_time(struct str text)
{
    int64_t us, again;
    char out[CLOCK_TEXT_MAX];
    if (!clock_parse(text, &us) || us < 0)
        return;
    size_t n = clock_format(out, us);
    must(n == 27 && n < sizeof out && out[n] == '\0');
    if (us < INT64_C(253402300800000000)) /* the year 10000 */
        must(clock_parse(str_n(out, n), &again) && again == us);
}

/* Every parameter that some list asks for. */
static void check_params(const struct query *q)
{
    static const char *const names[] = {"user.message", "agent.message", "span.model", NULL};
    struct time_range range;
    struct err err = {0};
    int64_t limit = 20;
    bool flag = false;
    int which = -1;
    unsigned set = 0;
    must_say(query_i64(q, "limit", 1, 1000, &limit, &err), &err);
    must(limit >= 1 && limit <= 1000);
    must_say(query_bool(q, "include_archived", &flag, &err), &err);
    must_say(query_enum(q, "order", names, &which, &err), &err);
    must(which >= -1 && which < 3);
    must_say(query_set(q, "types", names, &set, &err), &err);
    must(set < 8);
    int rc = query_range(q, "created_at", &range, &err);
    must_say(rc, &err);
    if (rc == 0)
        must_say(time_range_check(&range, 1763673621000000, &err), &err);
}

static void check_query(struct arena *a, struct str text)
{
    struct query q, again;
    struct http_param *params, *params_again;
    struct err err;
    int rc = http_query(a, text, &params, &q.n, &err);
    must_say(rc, &err);
    if (rc)
        return;
    q.params = params;
    check_params(&q);
    AUTO_BUF struct buf b = BUF_INIT(1 << 22);
    for (size_t i = 0; i < q.n; i++) {
        must(str_utf8(params[i].name) && str_utf8(params[i].value));
        check_cursor(a, params[i].value);
        check_time(params[i].value);
        if (i)
            buf_ch(&b, '&');
        http_encode(&b, params[i].name);
        buf_ch(&b, '=');
        http_encode(&b, params[i].value);
    }
    must(buf_ok(&b) && http_query(a, buf_view(&b), &params_again, &again.n, &err) == 0);
    must(again.n == q.n);
    for (size_t i = 0; i < q.n; i++)
        must(str_eq(params[i].name, params_again[i].name) &&
             str_eq(params[i].value, params_again[i].value));
}

static void check_headers(struct str *rest)
{
    struct str beta = str_split(rest, '\n'), type = str_split(rest, '\n'),
               idempotency = str_split(rest, '\n'), api_key = str_split(rest, '\n'),
               authorization = str_split(rest, '\n'), key = STR_NONE;
    struct err err;
    if (header_lists(beta, "managed-agents-2026-04-01"))
        must(str_find(beta, STR("managed-agents-2026-04-01")) >= 0);
    if (header_is_json(type))
        must(type.len >= 16);
    must_say(header_idempotency_key(idempotency, &key, &err), &err);
    must(!str_some(key) || (key.len > 0 && key.len <= IDEMPOTENCY_KEY_MAX && str_utf8(key)));
    key = header_api_key(api_key, authorization);
    must(!str_some(key) || (key.len > 0 && str_eq(str_trim(key), key)));
}

static void check_file(struct arena *a, struct str type, struct str name)
{
    struct str decided, called;
    struct err err;
    if (!str_utf8(name)) /* the form's reader lets no other through */
        return;
    int rc = file_type_decide(a, type, name, &decided, &err);
    must_say(rc, &err);
    if (rc)
        return;
    must(decided.len > 0 && str_find_ch(decided, '/') > 0 && str_find_ch(decided, '\n') < 0);
    rc = file_name_decide(a, name, decided, &called, &err);
    must_say(rc, &err);
    if (rc == 0)
        must(called.len > 0 && str_find_ch(called, '/') < 0 && str_find_ch(called, '\\') < 0 &&
             str_find_ch(called, '\0') < 0 && !str_eqz(called, ".."));
}

/* The HTTP parser lets no blank and no control character through. */
static bool target_ok(struct str target)
{
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.ptr[i] <= 0x20 || target.ptr[i] == 0x7f)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 24);
    struct str rest = str_n((const char *)data, len), target = str_split(&rest, '\n');
    struct str method = str_split(&target, ' ');
    if (target_ok(target)) {
        struct str path = str_split(&target, '?');
        check_route(&a, method, path);
        check_query(&a, target);
    }
    check_headers(&rest);
    struct str type = str_split(&rest, '\n');
    check_file(&a, type, rest);
    return 0;
}
