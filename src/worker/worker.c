/* Opening and closing a worker, the poll loop, and the look at what is too old. */
#include "worker/impl.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/rand.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

enum {
    POLL_BLOCK_MS = 999,
    POLL_FIRST_BYTE_MS = 15 * 1000,
    POLL_MIN_MS = 1000, /* between failed ones; also the shortest after one that did not wait */
    POLL_MAX_MS = 60 * 1000,
    IDLE_SAY_MS = 5 * 60 * 1000,
    SWEEP_MS = 60 * 60 * 1000,
    POLL_ARENA = 4 * 1024 * 1024,
    SECRET_MAX = 16 * 1024,
    DAY_S = 24 * 3600,
};

static void poll_now(struct worker *w);

/* ---- the end ---- */

static void say_ended(struct loop_post *post)
{
    struct worker *w = CONTAINER_OF(post, struct worker, post);
    struct err why = w->why;
    if (!w->closing)
        w->ended(w->ended_arg, &why);
    worker_handle_closed(w);
}

static void maybe_ended(struct worker *w)
{
    if (!w->ending || w->told || w->closing || !list_empty(&w->items))
        return;
    w->told = true;
    w->open++;
    loop_post(w->loop, &w->post, say_ended);
}

static void drain_over(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, timer);
    if (list_empty(&w->items))
        return;
    log_line(LOG_WARN, "calls still run; they go on in their sandboxes", NULL);
    list_for_each_safe (n, &w->items)
        item_drain(LIST_ENTRY(n, struct item, node), true);
    /* Giving back is not waited for more than its own time limit. */
}

static void begin_end(struct worker *w)
{
    w->ending = true;
    wire_cancel(&w->poll);
    loop_timer_start(&w->timer, WORKER_DRAIN_MS, drain_over);
    list_for_each_safe (n, &w->items)
        item_drain(LIST_ENTRY(n, struct item, node), false);
    maybe_ended(w);
}

void worker_drain(struct worker *w)
{
    if (w->drains++)
        drain_over(&w->timer);
    else if (!w->ending)
        begin_end(w);
}

static void fail(struct worker *w, const struct err *why)
{
    if (w->ending)
        return;
    w->why = *why;
    begin_end(w);
}

void worker_item_gone(struct worker *w)
{
    if (w->closing) {
        worker_handle_closed(w);
        return;
    }
    maybe_ended(w);
    worker_poll_soon(w);
}

/* ---- polling ---- */

static bool has_room(const struct worker *w)
{
    int64_t busy = 0, all = 0;
    list_for_each (n, &w->items) {
        busy += !item_waits(LIST_ENTRY(n, struct item, node));
        all++;
    }
    return busy < w->sessions && all < w->sessions * ITEMS_PER_SESSION;
}

static void poll_timer(struct loop_timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, timer);
    w->polling = false;
    poll_now(w);
}

/* `polling`: a poll runs, or the timer is set for one. */
static void poll_in(struct worker *w, int64_t ms)
{
    if (w->ending || w->closing)
        return;
    w->polling = true;
    loop_timer_start(&w->timer, ms, poll_timer);
}

void worker_poll_soon(struct worker *w)
{
    if (w->started && !w->polling && !w->ending && !w->closing && has_room(w))
        poll_in(w, 0);
}

static void poll_failed(struct worker *w, const char *why)
{
    int64_t ms = wire_backoff(w->failures++, POLL_MIN_MS, POLL_MAX_MS);
    char wait[32];
    snprintf(wait, sizeof wait, "%" PRId64, ms);
    log_line(LOG_WARN, "cannot get work; trying again", "error", why, "wait_ms", wait, NULL);
    poll_in(w, ms);
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= 0x20 || (unsigned char)s.ptr[i] >= 0x7f)
            return false;
    return s.len > 0 && s.len < 4000;
}

/* The token for the session's own calls, in `a`; absent where there is none that can be read. */
static struct str token_of(struct arena *a, struct str secret)
{
    const struct json *doc;
    size_t len = 0;
    if (!secret.len || secret.len > SECRET_MAX)
        return STR_NONE;
    char *text = arena_strz(a, secret), *out = arena_bytes(a, secret.len);
    if (!text || !out)
        return STR_NONE;
    while (secret.len && text[secret.len - 1] == '=')
        secret.len--;
    for (size_t i = 0; i < secret.len; i++)
        text[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    if (sodium_base642bin((unsigned char *)out, secret.len, text, secret.len, NULL, &len, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        json_parse(a, str_n(out, len), JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        return STR_NONE;
    struct str token = json_get_str(doc, "sessions_token");
    return is_token(token) ? token : STR_NONE;
}

static bool is_here(const struct worker *w, struct str session)
{
    list_for_each (n, &w->items)
        if (str_eq(id_str(&LIST_ENTRY(n, struct item, node)->session), session))
            return true;
    list_for_each (n, &w->orphans)
        if (str_eq(id_str(&LIST_ENTRY(n, struct run, node)->session), session))
            return true;
    return false;
}

/* INVALID for what cannot even be refused by name. */
static int take_item(struct worker *w, struct arena *a, const struct json *doc, bool *refused,
                     struct err *err)
{
    struct str id = json_get_str(doc, "id");
    const struct json *data = json_get(doc, "data");
    struct str session = json_get_str(data, "id"), secret = json_get_str(doc, "secret");
    if (!plan_names(id, sizeof((struct item *)0)->work_id))
        return err_set(err, ERR_INVALID, "the server sent an item without a usable id");
    if (!str_eqz(json_get_str(data, "type"), "session") || !plan_names(session, ID_MAX)) {
        char name[128], type[64];
        (void)str_copyz(name, sizeof name, id);
        (void)str_copyz(type, sizeof type, json_get_str(data, "type"));
        bool usual = str_eqz(str_z(type), "healthcheck");
        log_line(usual ? LOG_INFO : LOG_WARN,
                 "an item is no session that can be served; stopping it", "work", name, "type",
                 type, NULL);
        *refused = !usual;
        item_new(w, id, STR_NONE, token_of(a, secret), true);
        return 0;
    }
    /* An old lease of ours, which ends soon: then the item is offered again. */
    if (is_here(w, session)) {
        *refused = true;
        return 0;
    }
    struct str token = token_of(a, secret);
    if (secret.len && !token.len)
        log_line(LOG_WARN, "the item's secret holds no token; using the environment's key", NULL);
    item_new(w, id, session, token, false);
    return 0;
}

static void queue_is_empty(struct worker *w)
{
    int64_t now_ms = loop_now_ms(w->loop);
    w->failures = 0;
    if (w->once && list_empty(&w->items)) {
        begin_end(w);
        return;
    }
    if (!w->idle_said || now_ms - w->idle_said_ms >= IDLE_SAY_MS) {
        log_line(LOG_INFO, "waiting for work", NULL);
        w->idle_said = true;
        w->idle_said_ms = now_ms;
    }
    /* A server that holds polls sets the pace; one that does not is asked less often. */
    bool held = now_ms - w->polled_ms >= POLL_BLOCK_MS / 2;
    poll_in(w, (held ? 20 : POLL_MIN_MS) + (int64_t)(rand_u64() % (held ? 200 : 2000)));
}

static void polled(struct wire_call *c, const struct err *err)
{
    struct worker *w = CONTAINER_OF(c, struct worker, poll);
    AUTO_ARENA struct arena a;
    const struct json *doc = NULL;
    struct err bad = *err;
    bool refused = false;
    w->polling = false;
    if (bad.code && wire_is_final(c)) {
        char url[ERR_MSG_MAX];
        snprintf(url, sizeof url, "%.150s", w->wire.base);
        err_wrap(&bad, "%s does not give work of %s", url, w->wire.environment);
        fail(w, &bad);
        return;
    }
    arena_init(&a, POLL_ARENA);
    if (!bad.code && json_parse(&a, buf_view(&c->body), JSON_ALLOW_DUPLICATES, &doc, &bad) != 0)
        err_wrap(&bad, "the server's answer");
    if (!bad.code && doc->type == JSON_NULL) {
        queue_is_empty(w);
        return;
    }
    if (bad.code || take_item(w, &a, doc, &refused, &bad) != 0) {
        poll_failed(w, bad.msg);
        return;
    }
    if (refused) { /* however many there are: no hot loop */
        poll_in(w, wire_backoff(w->failures++, POLL_MIN_MS, POLL_MAX_MS));
        return;
    }
    w->failures = 0;
    w->idle_said = false;
    worker_poll_soon(w);
}

static void poll_now(struct worker *w)
{
    if (w->ending || w->closing || wire_busy(&w->poll) || !has_room(w))
        return;
    AUTO_BUF struct buf path = BUF_INIT(4096);
    buf_z(&path, "/v1/environments/");
    http_encode(&path, str_z(w->wire.environment));
    buf_printf(&path, "/work/poll?block_ms=%d", POLL_BLOCK_MS);
    const struct wire_request r = {
        .method = "GET", .path = buf_view(&path), .first_byte_ms = POLL_FIRST_BYTE_MS};
    w->polling = true;
    w->polled_ms = loop_now_ms(w->loop);
    wire_send(&w->poll, &r, polled);
}

/* ---- what is too old ---- */

struct sweeping {
    struct loop_work work;
    struct worker *w;
    struct keep_session *sessions;
    size_t n;
    struct err err;
    bool first;
};

static void sweep_work(struct loop_work *work)
{
    struct sweeping *s = CONTAINER_OF(work, struct sweeping, work);
    if (keep_list(s->w->dir, &s->sessions, &s->n, &s->err) == 0)
        worker_skills_sweep(s->w->dir, &s->w->blobs, s->w->keep_days * DAY_S);
}

static void sweep_again(struct loop_timer *t);

static void swept(struct loop_work *work)
{
    struct sweeping *s = CONTAINER_OF(work, struct sweeping, work);
    struct worker *w = s->w;
    w->sweeping = NULL;
    if (s->err.code && !w->closing)
        log_err(LOG_WARN, "old sessions were not looked for", &s->err);
    for (size_t i = 0; i < s->n && !w->closing && !s->err.code; i++) {
        struct str id = id_str(&s->sessions[i].id);
        if (s->sessions[i].age_s < w->keep_days * DAY_S || is_here(w, id))
            continue;
        log_line(LOG_INFO, "removing the files of a session that was not seen for long", "session",
                 s->sessions[i].id.z, NULL);
        w->port.destroy(w->port.self, id, true);
        keep_forget(w->dir, s->sessions[i].id.z);
    }
    if (s->first && !w->closing && !s->err.code) {
        struct id *keep = mem_zalloc((s->n + 1) * sizeof *keep);
        for (size_t i = 0; i < s->n; i++)
            keep[i] = s->sessions[i].id;
        sandboxes_sweep(w->sandboxes, keep, s->n);
        mem_free(keep);
    }
    if (!w->closing)
        loop_timer_start(&w->sweep_timer, SWEEP_MS, sweep_again);
    mem_free(s->sessions);
    mem_free(s);
    worker_handle_closed(w);
}

static void sweep(struct worker *w, bool first)
{
    struct sweeping *s = mem_zalloc(sizeof *s);
    s->w = w;
    s->first = first;
    w->sweeping = s;
    w->open++;
    loop_work(w->loop, &s->work, sweep_work, swept);
}

static void sweep_again(struct loop_timer *t)
{
    sweep(CONTAINER_OF(t, struct worker, sweep_timer), false);
}

/* ---- opening ---- */

static void on_probed(void *arg)
{
    struct worker *w = arg;
    const struct sandbox_tier *t = sandboxes_tier(w->sandboxes);
    if (w->closing || w->ending)
        return;
    if (!t->ok) {
        struct err err;
        err_set(&err, ERR_UNAVAILABLE, "no sandbox works here, and nothing runs outside of one: %s",
                t->reason);
        fail(w, &err);
        return;
    }
    log_line(LOG_INFO, "worker started", "version", OSTLER_VERSION, "environment",
             w->wire.environment, "server", w->wire.base, "name", w->wire.name, "dir", w->dir,
             "tier", t->name, NULL);
    w->started = true;
    sweep(w, true);
    worker_poll_soon(w);
}

static int fill_wire(struct worker *w, const struct worker_config *cfg, struct err *err)
{
    struct str url = str_z(cfg->url);
    char host[64] = "";
    while (url.len && url.ptr[url.len - 1] == '/')
        url.len--;
    if (!(str_starts(url, STR("http://")) || str_starts(url, STR("https://"))) ||
        !str_copyz(w->wire.base, sizeof w->wire.base, url))
        return err_at(err, ERR_INVALID, "--url", "'%s' is not a server's URL; write https://HOST",
                      cfg->url);
    if (!plan_names(str_z(cfg->environment), sizeof w->wire.environment))
        return err_at(err, ERR_INVALID, "--environment", "'%s' is not an environment's id",
                      cfg->environment);
    if (!is_token(str_z(cfg->key)) || !str_copyz(w->wire.key, sizeof w->wire.key, str_z(cfg->key)))
        return err_at(err, ERR_INVALID, "--key", "what was given is not an environment key");
    if (!cfg->name && gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    (void)str_copyz(w->wire.environment, sizeof w->wire.environment, str_z(cfg->environment));
    if (cfg->name && (!is_token(str_z(cfg->name)) || strlen(cfg->name) >= sizeof w->wire.name))
        return err_at(err, ERR_INVALID, "--name", "a worker's name is printable and short");
    if (cfg->name)
        (void)str_copyz(w->wire.name, sizeof w->wire.name, str_z(cfg->name));
    else
        snprintf(w->wire.name, sizeof w->wire.name, "%s%s%016" PRIx64, host, host[0] ? "-" : "",
                 rand_u64());
    return 0;
}

static void on_egress(void *arg, const struct sandbox_egress *e)
{
    char host[256];
    (void)arg;
    if (!egress_reason_denied(e->decision->reason))
        return;
    (void)str_copyz(host, sizeof host, str_take(e->decision->host, sizeof host - 1));
    log_line(LOG_INFO, "refused a connection", "session", id_from(e->decision->session).z, "host",
             host, "reason", egress_reason_name(e->decision->reason), NULL);
}

static int open_sandboxes(struct worker *w, const struct worker_config *cfg, struct err *err)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/sandboxes", w->dir);
    const struct sandbox_config sandbox = {.dir = dir,
                                           .data = w->dir,
                                           .limits = cfg->limits,
                                           .egress = cfg->egress,
                                           .on_egress = on_egress};
    int rc = blobs_open(&w->blobs, w->dir, err);
    if (rc == 0)
        rc = sandboxes_open(w->loop, &sandbox, &w->sandboxes, err);
    if (rc == 0)
        w->port = sandboxes_port(w->sandboxes);
    return rc;
}

static void worker_free(struct worker *w)
{
    if (w->blobs.dir >= 0)
        blobs_close(&w->blobs);
    fd_close(w->lock);
    mem_free(w->environment_config);
    sodium_memzero(w->wire.key, sizeof w->wire.key);
    mem_free(w);
}

int worker_open(struct loop *l, const struct worker_config *cfg, struct worker **out,
                struct err *err)
{
    struct worker *w = mem_zalloc(sizeof *w);
    w->loop = w->wire.loop = l;
    w->lock = w->blobs.dir = -1;
    w->sessions = cfg->sessions;
    w->idle_ms = cfg->idle_ms;
    w->keep_days = cfg->keep_days;
    w->lease_seconds = cfg->lease_seconds;
    w->once = cfg->once;
    w->environment_config = mem_dupz(cfg->environment_config.ptr, cfg->environment_config.len);
    list_init(&w->items);
    list_init(&w->orphans);
    int rc = fill_wire(w, cfg, err);
    if (rc == 0 && !str_copyz(w->dir, sizeof w->dir, str_z(cfg->dir)))
        rc = err_at(err, ERR_INVALID, "--dir", "the directory's path is too long");
    rc = rc ? rc : keep_lock(w->dir, &w->lock, err);
    rc = rc ? rc : open_sandboxes(w, cfg, err);
    if (rc) {
        worker_free(w);
        return rc;
    }
    w->wire.http = http_client_new(l);
    wire_call_init(&w->poll, &w->wire, NULL);
    loop_timer_init(l, &w->timer);
    loop_timer_init(l, &w->sweep_timer);
    *out = w;
    return 0;
}

void worker_start(struct worker *w, void (*ended)(void *arg, const struct err *err), void *arg)
{
    w->ended = ended;
    w->ended_arg = arg;
    sandboxes_on_probed(w->sandboxes, on_probed, w);
}

/* ---- closing ---- */

/* In this order: items and what they began; then sandboxes, which drop their calls; then the rest.
 */
static void http_closed(void *arg)
{
    struct worker *w = arg;
    void (*closed)(void *) = w->closed;
    void *closed_arg = w->closed_arg;
    worker_free(w);
    closed(closed_arg);
}

static void sandboxes_closed(void *arg)
{
    struct worker *w = arg;
    w->sandboxes = NULL;
    list_for_each_safe (n, &w->orphans) {
        struct run *r = LIST_ENTRY(n, struct run, node);
        r->given = false;
        run_free(r);
    }
    worker_handle_closed(w);
}

void worker_handle_closed(struct worker *w)
{
    w->open--;
    if (!w->closing || w->open)
        return;
    if (w->sandboxes) {
        w->open++;
        sandboxes_close(w->sandboxes, sandboxes_closed, w);
    } else if (w->wire.http) {
        http_client_close(TAKE_PTR(w->wire.http), http_closed, w);
    }
}

static void timer_closed(struct loop_timer *t)
{
    worker_handle_closed(CONTAINER_OF(t, struct worker, timer));
}

static void sweep_timer_closed(struct loop_timer *t)
{
    worker_handle_closed(CONTAINER_OF(t, struct worker, sweep_timer));
}

void worker_close(struct worker *w, void (*closed)(void *arg), void *arg)
{
    w->closing = true;
    w->closed = closed;
    w->closed_arg = arg;
    wire_call_fini(&w->poll);
    w->open += 2;
    loop_timer_close(&w->timer, timer_closed);
    loop_timer_close(&w->sweep_timer, sweep_timer_closed);
    list_for_each_safe (n, &w->items) {
        w->open++;
        item_close(LIST_ENTRY(n, struct item, node));
    }
}
