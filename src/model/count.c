/* Asking a provider how many tokens a request has. Whatever goes wrong, the answer is that it
 * cannot say: the caller then goes by the bytes. */
#include "model/provider.h"

enum { COUNT_MS = 10 * 1000, COUNT_RESPONSE_MAX = 64 * 1024 };

struct count_call {
    struct model_call base;
    struct provider *provider; /* NULL: nobody is asked */
    void (*done)(void *arg, int64_t tokens);
    void *arg;
    struct http_call *http;
    struct loop_timer timer;
    struct gate_wait wait;
    bool fast, over;
    int status;
    int64_t tokens;
    struct buf request, response;
};

static void call_closed(struct loop_timer *timer)
{
    struct count_call *c = CONTAINER_OF(timer, struct count_call, timer);
    buf_fini(&c->request);
    buf_fini(&c->response);
    mem_free(c);
}

static void call_end(struct count_call *c)
{
    if (c->over)
        return;
    c->over = true;
    if (c->http)
        http_call_cancel(TAKE_PTR(c->http));
    loop_timer_close(&c->timer, call_closed);
    if (c->provider)
        gate_leave(c->provider->gate, &c->wait, 0);
}

static void call_cancel(struct model_call *base)
{
    call_end(CONTAINER_OF(base, struct count_call, base));
}

static void report(struct count_call *c)
{
    if (c->over)
        return;
    call_end(c);
    c->done(c->arg, c->tokens);
}

static void on_timer(struct loop_timer *timer)
{
    report(CONTAINER_OF(timer, struct count_call, timer));
}

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct count_call *c = arg;
    (void)headers;
    (void)n;
    c->status = status;
}

static void on_data(void *arg, struct str piece)
{
    struct count_call *c = arg;
    buf_str(&c->response, piece);
}

static int64_t read_tokens(struct str body)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc;
    int64_t tokens;
    struct err err;
    if (json_parse(&a, body, JSON_ALLOW_DUPLICATES, &doc, &err) ||
        !answer_count(doc, "input_tokens", &tokens))
        return -1;
    return tokens;
}

static void on_done(void *arg, const struct err *err)
{
    struct count_call *c = arg;
    c->http = NULL;
    if (err->code == 0 && c->status == 200 && buf_ok(&c->response))
        c->tokens = read_tokens(buf_view(&c->response));
    report(c);
}

static int64_t at_most(int64_t ms)
{
    return ms > 0 && ms < COUNT_MS ? ms : COUNT_MS;
}

static void transmit(struct count_call *c)
{
    struct provider *p = c->provider;
    struct http_header headers[WIRE_HEADERS_MAX] = {
        {STR("content-type"), STR("application/json")},
        {STR("user-agent"), STR("ostler/" OSTLER_VERSION)},
    };
    const struct http_call_params params = {
        .method = "POST",
        .url = p->count_url,
        .headers = headers,
        .nheaders = 2 + p->wire->headers(p->credential, c->fast, headers + 2),
        .body = buf_view(&c->request),
        .connect_ms = at_most(p->connect_ms),
        .first_byte_ms = at_most(p->first_byte_ms),
        .silence_ms = at_most(p->silence_ms),
        .max_response = COUNT_RESPONSE_MAX,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = c};
    struct err err;
    c->http = http_call_start(p->http, &params, &err);
    buf_fini(&c->request);
    if (!c->http)
        loop_timer_start(&c->timer, 0, on_timer); /* never from inside start */
}

static void on_go(struct gate_wait *wait)
{
    transmit(CONTAINER_OF(wait, struct count_call, wait));
}

static struct count_call *call_new(struct loop *l, void (*done)(void *arg, int64_t tokens),
                                   void *arg)
{
    struct count_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = call_cancel;
    c->done = done;
    c->arg = arg;
    c->tokens = -1;
    buf_init(&c->request, LIMIT_PROMPT);
    buf_init(&c->response, COUNT_RESPONSE_MAX);
    loop_timer_init(l, &c->timer);
    return c;
}

struct model_call *count_known(struct loop *l, int64_t tokens,
                               void (*done)(void *arg, int64_t tokens), void *arg)
{
    struct count_call *c = call_new(l, done, arg);
    c->tokens = tokens;
    loop_timer_start(&c->timer, 0, on_timer);
    return &c->base;
}

struct model_call *count_start(struct provider *p, const struct wire_request *r,
                               void (*done)(void *arg, int64_t tokens), void *arg)
{
    bool may = p->count_url && provider_usable(p);
    struct count_call *c = call_new(p->loop, done, arg);
    struct wire_request counting = *r;
    counting.counting = true;
    struct err err;
    c->fast = p->wire->knows_fast && str_eqz(r->req->speed, "fast");
    if (!may || p->wire->body(&counting, &c->request, &err) || !buf_ok(&c->request)) {
        loop_timer_start(&c->timer, 0, on_timer);
        return &c->base;
    }
    c->provider = p;
    /* Counting is a request of its own, but its tokens are not used. */
    if (gate_enter(p->gate, &c->wait, r->req->session_id, 0, on_go))
        transmit(c);
    return &c->base;
}
