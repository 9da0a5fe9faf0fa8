#include "client.h"
#include "load.h"
#include "samples.h"

#include <sys/socket.h>
#include <unistd.h>

/* ---- fan ---- */

static struct {
    struct conn *post;
    size_t streams, open, received;
    int64_t rounds, sent_ns, first_ns;
    struct str path, body;
    const char *event;
    bool posted;
    /* each: POST to the event on one stream; last: to it on the last stream; spread: from the first
     * stream's to the last one's. */
    struct samples each, last, spread;
} fan;

static void next_round(void)
{
    if (fan.rounds-- == 0) {
        client_stop();
        return;
    }
    fan.received = 0;
    fan.posted = false;
    fan.sent_ns = now_ns();
    conn_send(fan.post, "POST", fan.path, fan.body);
}

static void round_over(void)
{
    if (fan.posted && fan.received == fan.streams)
        next_round();
}

static void posted(struct conn *c)
{
    (void)c;
    fan.posted = true;
    round_over();
}

static void on_event(struct conn *c, struct str type)
{
    (void)c;
    if (!str_eqz(type, fan.event))
        return;
    int64_t now = now_ns();
    if (fan.received++ == 0)
        fan.first_ns = now;
    samples_add(&fan.each, now - fan.sent_ns);
    if (fan.received == fan.streams) {
        samples_add(&fan.last, now - fan.sent_ns);
        samples_add(&fan.spread, now - fan.first_ns);
        round_over();
    }
}

static void on_open(struct conn *c)
{
    (void)c;
    if (++fan.open == fan.streams)
        next_round();
}

int load_fan(int argc, char **argv)
{
    if (argc != 8)
        die("usage: load fan PORT STREAMS ROUNDS STREAM_PATH POST_PATH BODY EVENT");
    client_init((int)number(argv[1], 1, 65535));
    fan.streams = (size_t)number(argv[2], 1, 10000);
    fan.rounds = number(argv[3], 1, 100000);
    fan.path = str_z(argv[5]);
    fan.body = str_z(argv[6]);
    fan.event = argv[7];
    fan.post = conn_open(NULL);
    fan.post->on_done = posted;
    for (size_t i = 0; i < fan.streams; i++) {
        struct conn *c = conn_open(NULL);
        c->on_head = on_open;
        c->on_event = on_event;
        conn_send(c, "GET", str_z(argv[4]), STR_NONE);
    }
    client_run(0);
    printf("{");
    samples_print(stdout, "each", &fan.each);
    printf(",");
    samples_print(stdout, "last", &fan.last);
    printf(",");
    samples_print(stdout, "spread", &fan.spread);
    printf("}\n");
    return 0;
}

/* ---- stall ---- */

enum { RECEIVE_BYTES = 4096 };

/* Sends the request and waits for the first byte of the answer, which it leaves where it is. */
static void open_stalled(const char *session)
{
    struct buf path = BUF_INIT(1024), request = BUF_INIT(8192);
    char first;
    int fd = client_connect(RECEIVE_BYTES);
    buf_printf(&path, "/v1/sessions/%s/events/stream", session);
    client_request(&request, "GET", buf_view(&path), STR_NONE);
    if (send(fd, request.data, request.len, MSG_NOSIGNAL) != (ssize_t)request.len ||
        recv(fd, &first, 1, MSG_PEEK) != 1)
        die("the stream of %s does not open", session);
    buf_fini(&path);
    buf_fini(&request);
}

int load_stall(int argc, char **argv)
{
    struct lines in;
    if (argc != 3)
        die("usage: load stall PORT COUNT <session ids");
    client_init((int)number(argv[1], 1, 65535));
    int64_t count = number(argv[2], 1, 10000);
    lines_read(&in);
    for (size_t i = 0; i < in.n; i++)
        for (int64_t k = 0; k < count; k++)
            open_stalled(in.line[i]);
    printf("{\"streams\":%lld}\n", (long long)(count * (int64_t)in.n));
    fflush(stdout);
    for (;;)
        pause();
}
