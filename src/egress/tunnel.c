/* CONNECT: bytes both ways. With limited networking nothing is sent on before the client's TLS
 * hello has named the host that was connected to. */
#include "egress/conn.h"
#include "egress/hello.h"

#include <stdio.h>

static void open_pipe(struct conn *c)
{
    sm_move(&c->sm, CONN_TUNNEL);
    conn_arm(c, c->box->proxy->settings.idle_ms);
    stream_pause(c->upstream, false);
    c->up += c->in.len;
    stream_send(c->upstream, buf_view(&c->in));
    buf_fini(&c->in);
}

void tunnel_open(struct conn *c)
{
    stream_send(c->client, STR("HTTP/1.1 200 Connection established\r\n\r\n"));
    if (c->box->policy.unrestricted) {
        open_pipe(c);
        return;
    }
    stream_pause(c->upstream, true); /* a server that speaks first is not heard before the hello */
    sm_move(&c->sm, CONN_HELLO);
    conn_arm(c, c->box->proxy->settings.connect_ms);
    tunnel_hello(c);
}

static void refuse(struct conn *c, const char *why)
{
    /* alert: fatal, unrecognized_name; a TLS client shows it */
    static const char alert[] = {21, 3, 1, 0, 2, 2, 112};
    conn_decide(c, EGRESS_SNI_MISMATCH, why);
    stream_send(c->client, str_n(alert, sizeof alert));
    conn_linger(c);
}

void tunnel_hello(struct conn *c)
{
    char name[HOST_MAX], why[3 * HOST_MAX];
    if (c->in.len == 0)
        return;
    switch (hello_parse(buf_view(&c->in), name)) {
    case HELLO_MORE: return;
    case HELLO_NAME:
        if (strcmp(name, c->to.host) == 0) {
            open_pipe(c);
            return;
        }
        snprintf(why, sizeof why,
                 "The TLS hello in the tunnel to %s names %s. Connect to the host itself.",
                 c->to.host, name);
        refuse(c, why);
        return;
    case HELLO_NO_NAME:
        refuse(c, "The TLS hello in the tunnel names no host (SNI), which limited networking "
                  "demands.");
        return;
    case HELLO_BAD:
        refuse(c, "What the client sent into the tunnel is no TLS hello with one host name; "
                  "limited networking allows TLS only.");
        return;
    }
}

void tunnel_up(struct conn *c, struct str bytes)
{
    c->up += bytes.len;
    stream_send(c->upstream, bytes);
    if (stream_queued(c->upstream) > STREAM_HIGH)
        stream_pause(c->client, true);
}

void tunnel_down(struct conn *c, struct str bytes)
{
    c->down += bytes.len;
    stream_send(c->client, bytes);
    if (stream_queued(c->client) > STREAM_HIGH)
        stream_pause(c->upstream, true);
}

void tunnel_ended(struct conn *c)
{
    if (c->client_ended)
        stream_shutdown(c->upstream);
    if (c->upstream_ended)
        stream_shutdown(c->client);
    if (c->client_ended && c->upstream_ended && stream_queued(c->client) == 0 &&
        stream_queued(c->upstream) == 0)
        conn_end(c);
}
