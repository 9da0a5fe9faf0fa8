#include "client.h"
#include "load.h"
#include "samples.h"

/* One session at a time: its stream on a connection of its own, its requests on another. */
struct turner {
    struct conn *stream, *post;
    struct buf path;
    int64_t round, started_ns, new_ns, use_ns;
    bool acked, idle;
};

static struct {
    struct lines sessions;
    size_t next, running;
    int64_t rounds, first_ns, last_ns, turns;
    struct buf message;
    /* `first`: */
    struct str create;
    int64_t left;
    /* The first turn of a session apart from the others. */
    struct samples ack, turn[2], tool[2], whole;
} t;

static void next_session(struct turner *w);
static void next_turn(struct turner *w);

static void turn_over(struct turner *w)
{
    if (!w->acked || !w->idle)
        return;
    w->round++;
    t.turns++;
    if (w->round < t.rounds) {
        next_turn(w);
        return;
    }
    t.last_ns = now_ns();
    conn_close(w->stream);
    w->stream = NULL;
    next_session(w);
}

static void posted(struct conn *c)
{
    struct turner *w = c->arg;
    samples_add(&t.ack, now_ns() - c->sent_ns);
    w->acked = true;
    turn_over(w);
}

static void on_event(struct conn *c, struct str type)
{
    struct turner *w = c->arg;
    bool again = w->round > 0;
    int64_t now = now_ns();
    if (str_eqz(type, "agent.tool_use")) {
        w->use_ns = now;
    } else if (str_eqz(type, "agent.tool_result")) {
        samples_add(&t.tool[again], now - w->use_ns);
    } else if (str_eqz(type, "session.status_idle")) {
        samples_add(&t.turn[again], now - w->started_ns);
        if (w->new_ns)
            samples_add(&t.whole, now - w->new_ns);
        w->idle = true;
        turn_over(w);
    } else if (str_eqz(type, "session.error")) {
        die("a session reported an error");
    }
}

static void next_turn(struct turner *w)
{
    w->acked = w->idle = false;
    w->started_ns = now_ns();
    if (t.first_ns == 0)
        t.first_ns = w->started_ns;
    w->post->on_done = posted;
    conn_send(w->post, "POST", buf_view(&w->path), buf_view(&t.message));
}

static void stream_open(struct conn *c)
{
    next_turn(c->arg);
}

static void open_stream(struct turner *w, struct str id)
{
    struct buf path = BUF_INIT(1024);
    buf_printf(&path, "/v1/sessions/" STR_FMT "/events/stream", STR_ARG(id));
    buf_clear(&w->path);
    buf_printf(&w->path, "/v1/sessions/" STR_FMT "/events", STR_ARG(id));
    w->stream = conn_open(w);
    w->stream->on_head = stream_open;
    w->stream->on_event = on_event;
    w->round = 0;
    conn_send(w->stream, "GET", buf_view(&path), STR_NONE);
    buf_fini(&path);
}

static void created(struct conn *c)
{
    struct str body = buf_view(&c->body), mark = STR("\"id\":\"sesn_");
    ptrdiff_t at = str_find(body, mark);
    if (at < 0)
        die("a session without an id: " STR_FMT, STR_ARG(body));
    struct str id = str_skip(body, (size_t)at + 6);
    open_stream(c->arg, str_take(id, (size_t)str_find_ch(id, '"')));
}

static void next_session(struct turner *w)
{
    if (str_some(t.create) && t.left-- > 0) {
        w->new_ns = now_ns();
        w->post->keep_body = true;
        w->post->on_done = created;
        conn_send(w->post, "POST", STR("/v1/sessions"), t.create);
    } else if (t.next < t.sessions.n && !str_some(t.create)) {
        open_stream(w, str_z(t.sessions.line[t.next++]));
    } else if (--t.running == 0) {
        client_stop();
    }
}

static void run(size_t concurrent)
{
    struct turner *all = mem_zalloc(concurrent * sizeof *all);
    t.running = concurrent;
    for (size_t i = 0; i < concurrent; i++) {
        buf_init(&all[i].path, 1024);
        all[i].post = conn_open(&all[i]);
    }
    for (size_t i = 0; i < concurrent; i++)
        next_session(&all[i]);
    client_run(0);
    double seconds = (double)(t.last_ns - t.first_ns) / 1e9;
    printf("{\"turns\":%lld,\"seconds\":%.3f,\"rate\":%.1f,", (long long)t.turns, seconds,
           (double)t.turns / seconds);
    samples_print(stdout, "ack", &t.ack);
    static const char *const names[] = {"first_turn", "turn", "first_tool", "tool"};
    for (size_t i = 0; i < 2; i++) {
        printf(",");
        samples_print(stdout, names[i], &t.turn[i]);
        printf(",");
        samples_print(stdout, names[i + 2], &t.tool[i]);
    }
    printf(",");
    samples_print(stdout, "whole", &t.whole);
    printf("}\n");
}

int load_turns(int argc, char **argv)
{
    if (argc != 5)
        die("usage: load turns PORT CONCURRENT ROUNDS TEXT <session ids");
    client_init((int)number(argv[1], 1, 65535));
    size_t concurrent = (size_t)number(argv[2], 1, 10000);
    t.rounds = number(argv[3], 1, 1000000);
    buf_init(&t.message, 64 * 1024 * 1024);
    put_message(&t.message, argv[4]);
    lines_read(&t.sessions);
    run(concurrent < t.sessions.n ? concurrent : t.sessions.n);
    return 0;
}

int load_first(int argc, char **argv)
{
    struct lines in;
    if (argc != 4)
        die("usage: load first PORT N TEXT <body of POST /v1/sessions");
    client_init((int)number(argv[1], 1, 65535));
    t.left = number(argv[2], 1, 1000000);
    t.rounds = 1;
    buf_init(&t.message, 64 * 1024 * 1024);
    put_message(&t.message, argv[3]);
    lines_read(&in);
    t.create = str_z(in.line[0]);
    run(1);
    return 0;
}
