/* curl's multi-socket interface on the loop: curl says which sockets and which timeout it waits
 * for, we tell it what happened. curl may not be re-entered from its own call-backs, so what those
 * want (starts, cancels, resumes) is only marked and done by sweep() afterwards. */
#include "http/call.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>

struct sock {
    uv_poll_t poll;
    struct http_client *client;
    curl_socket_t fd;
};

static void act(struct http_client *c, curl_socket_t fd, int events);

/* ---- closing ---- */

static void maybe_closed(struct http_client *c)
{
    if (!c->closing || !c->wake_closed || c->nsockets || c->ntimers)
        return;
    void (*closed)(void *) = c->closed;
    void *arg = c->closed_arg;
    mem_free(c);
    if (closed)
        closed(arg);
}

void client_call_gone(struct http_client *c)
{
    c->ntimers--;
    maybe_closed(c);
}

static void on_wake_closed(struct loop_timer *t)
{
    struct http_client *c = CONTAINER_OF(t, struct http_client, wake);
    c->wake_closed = true;
    maybe_closed(c);
}

/* ---- what curl waits for ---- */

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct sock *s = CONTAINER_OF(poll, struct sock, poll);
    int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    if (status < 0)
        flags = CURL_CSELECT_ERR;
    act(s->client, s->fd, flags); /* may close and so free s: do not look at it again */
}

static void on_sock_closed(uv_handle_t *h)
{
    struct sock *s = CONTAINER_OF(h, struct sock, poll);
    struct http_client *c = s->client;
    mem_free(s);
    c->nsockets--;
    maybe_closed(c);
}

static struct sock *sock_new(struct http_client *c, curl_socket_t fd)
{
    struct sock *s = mem_zalloc(sizeof *s);
    s->client = c;
    s->fd = fd;
    if (uv_poll_init_socket(loop_uv(c->loop), &s->poll, fd) != 0) {
        mem_free(s);
        return NULL;
    }
    c->nsockets++;
    curl_multi_assign(c->multi, fd, s);
    return s;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock)
{
    (void)easy;
    struct http_client *c = arg;
    struct sock *s = sock;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            /* curl closes the descriptor next: the loop must have let go of it by then. */
            uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_sock_closed);
            curl_multi_assign(c->multi, fd, NULL);
        }
        return 0;
    }
    if (!s)
        s = sock_new(c, fd);
    if (!s)
        return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    uv_poll_start(&s->poll, events, on_socket);
    return 0;
}

static void on_wake(struct loop_timer *t);

static void arm(struct http_client *c)
{
    if (c->closing)
        return;
    if (c->touched)
        loop_timer_start(&c->wake, 0, on_wake);
    else if (c->curl_at_ms != INT64_MAX)
        loop_timer_start(&c->wake, c->curl_at_ms - loop_now_ms(c->loop), on_wake);
    else
        loop_timer_stop(&c->wake);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct http_client *c = arg;
    c->curl_at_ms = timeout_ms < 0 ? INT64_MAX : loop_now_ms(c->loop) + timeout_ms;
    arm(c);
    return 0;
}

/* ---- driving ---- */

/* Takes what is finished out of curl. */
static void reap(struct http_client *c)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
        if (m->msg != CURLMSG_DONE)
            continue;
        struct http_call *call = NULL;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        if (call->cancelled)
            call_free(call);
        else
            call_finish(call, code);
    }
}

/* The first call with work put off, or NULL. */
static struct http_call *find_work(struct http_client *c)
{
    list_for_each (n, &c->calls) {
        struct http_call *call = LIST_ENTRY(n, struct http_call, node);
        bool fresh = sm_state(&call->sm) == CALL_FRESH, resumed = call->held && !call->paused;
        if (call->cancelled || call->failed || fresh || resumed)
            return call;
    }
    return NULL;
}

static void sweep(struct http_client *c)
{
    for (struct http_call *call; (call = find_work(c)) != NULL;) {
        if (call->cancelled) {
            call_free(call);
        } else if (call->failed) {
            call_finish(call, CURLE_OK);
        } else if (sm_state(&call->sm) == CALL_FRESH) {
            sm_move(&call->sm, CALL_WAIT);
            c->depth++;
            curl_multi_add_handle(c->multi, call->easy);
            c->depth--;
        } else {
            c->depth++;
            call_unhold(call); /* may deliver at once */
            c->depth--;
        }
        reap(c);
    }
    c->touched = false;
    arm(c);
}

static void act(struct http_client *c, curl_socket_t fd, int events)
{
    int running;
    c->depth++;
    curl_multi_socket_action(c->multi, fd, events, &running);
    c->depth--;
    reap(c);
    if (c->touched)
        sweep(c);
    else
        arm(c);
}

static void on_wake(struct loop_timer *t)
{
    struct http_client *c = CONTAINER_OF(t, struct http_client, wake);
    if (c->touched)
        sweep(c);
    if (c->closing || c->curl_at_ms > loop_now_ms(c->loop)) {
        arm(c);
        return;
    }
    c->curl_at_ms = INT64_MAX;
    act(c, CURL_SOCKET_TIMEOUT, 0);
}

void client_touch(struct http_client *c)
{
    c->touched = true;
    if (c->depth == 0)
        arm(c); /* inside curl, act() sweeps when it is out again */
}

/* ---- opening and closing ---- */

static void global_init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* At the first call: a server that calls nobody never pays for curl and TLS. */
void client_need_curl(struct http_client *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (c->multi)
        return;
    pthread_once(&once, global_init);
    c->multi = curl_multi_init();
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
}

struct http_client *http_client_new(struct loop *l)
{
    struct http_client *c = mem_zalloc(sizeof *c);
    c->loop = l;
    c->curl_at_ms = INT64_MAX;
    list_init(&c->calls);
    loop_timer_init(l, &c->wake);
    return c;
}

static void close_now(struct http_client *c)
{
    while (!list_empty(&c->calls))
        call_free(LIST_ENTRY(c->calls.next, struct http_call, node));
    if (c->multi)
        curl_multi_cleanup(c->multi); /* closes pooled connections, so their poll handles too */
    c->multi = NULL;
    loop_timer_close(&c->wake, on_wake_closed);
}

static void on_close_wake(struct loop_timer *t)
{
    close_now(CONTAINER_OF(t, struct http_client, wake));
}

void http_client_close(struct http_client *c, void (*closed)(void *arg), void *arg)
{
    if (c->closing)
        return;
    c->closing = true;
    c->closed = closed;
    c->closed_arg = arg;
    list_for_each (n, &c->calls)
        LIST_ENTRY(n, struct http_call, node)->cancelled = true;
    /* From the loop, not from here: this may be a call-back inside curl. */
    loop_timer_start(&c->wake, 0, on_close_wake);
}
