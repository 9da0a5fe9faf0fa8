#include "client.h"
#include "load.h"
#include "samples.h"

static struct {
    struct lines paths;
    const char *method;
    struct str body;
    bool once;
    size_t nconns, next, running;
    struct samples latency;
} rate;

struct worker {
    size_t at;
};

static void send_next(struct conn *c)
{
    struct worker *w = c->arg;
    size_t i;
    if (!rate.once) {
        i = w->at;
        w->at = (w->at + rate.nconns) % rate.paths.n;
    } else if (rate.next < rate.paths.n) {
        i = rate.next++;
    } else {
        if (--rate.running == 0)
            client_stop();
        return;
    }
    struct str body = str_z(rate.paths.line[i]), path = str_split(&body, '\t');
    conn_send(c, rate.method, path, str_some(body) ? body : rate.body);
}

static void answered(struct conn *c)
{
    samples_add(&rate.latency, now_ns() - c->sent_ns);
    send_next(c);
}

int load_rate(int argc, char **argv)
{
    if (argc != 5 && argc != 6)
        die("usage: load rate PORT CONNECTIONS MS METHOD [BODY] <paths");
    client_init((int)number(argv[1], 1, 65535));
    rate.nconns = (size_t)number(argv[2], 1, 10000);
    int64_t ms = number(argv[3], 0, 600000);
    rate.method = argv[4];
    rate.body = str_z(argc == 6 ? argv[5] : NULL);
    rate.once = ms == 0;
    lines_read(&rate.paths);
    struct worker *workers = mem_zalloc(rate.nconns * sizeof *workers);
    struct conn **conns = mem_zalloc(rate.nconns * sizeof(struct conn *));
    for (size_t i = 0; i < rate.nconns; i++) {
        workers[i].at = i % rate.paths.n;
        conns[i] = conn_open(&workers[i]);
        conns[i]->on_done = answered;
    }
    int64_t from = now_ns();
    rate.running = rate.nconns;
    for (size_t i = 0; i < rate.nconns; i++)
        send_next(conns[i]);
    client_run(rate.once ? 0 : from + ms * 1000000);
    double seconds = (double)(now_ns() - from) / 1e9;
    printf("{\"rate\":%.1f,\"seconds\":%.3f,", (double)rate.latency.n / seconds, seconds);
    samples_print(stdout, "latency", &rate.latency);
    printf("}\n");
    return 0;
}
