/* hello: the floor of an HTTP server: llhttp and libuv, a constant answer, no check of anything.
 *
 *   GET anything    a JSON body about as long as that of /healthz
 *   GET /stream     an event stream that stays open
 *   POST anything   writes one frame to every open stream, then answers
 */
#include "samples.h"
#include "server.h"

static struct list streams;

static void answer(struct peer *p)
{
    static const struct str body = STR(
        "{\"status\":\"ok\",\"version\":\"0.1.0\",\"started_at\":\"2026-01-01T00:00:00.000000Z\","
        "\"sandbox\":{\"ok\":true,\"tier\":\"bwrap\",\"limits\":\"cgroup v2\",\"seccomp\":true,"
        "\"landlock\":true,\"landlock_abi\":4,\"reason\":null}}");
    static const struct str head = STR("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                       "Transfer-Encoding: chunked\r\n\r\n");
    /* As long as ours: 24 bytes of event name, the id, and its JSON. */
    static const struct str frame = STR(
        "e1\r\nevent: session.status_idle\nid: sevt_01GzHk7YcPqVmNwR2sTbXe4J\n"
        "data: {\"id\":\"sevt_01GzHk7YcPqVmNwR2sTbXe4J\",\"type\":\"session.status_idle\","
        "\"stop_reason\":{\"type\":\"end_turn\"},\"processed_at\":\"2026-11-20T21:20:21.123456Z\"}"
        "          \n\n\r\n");
    if (p->parser.method == HTTP_POST) {
        list_for_each_safe (it, &streams)
            peer_send(LIST_ENTRY(it, struct peer, link), frame);
        peer_reply(p, "application/json", STR("{}"));
    } else if (str_eqz(buf_view(&p->path), "/stream")) {
        list_push(&streams, &p->link);
        peer_send(p, head);
    } else {
        peer_reply(p, "application/json", body);
    }
}

int main(void)
{
    list_init(&streams);
    server_run(answer);
    return 0;
}
