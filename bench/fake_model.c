/* fake_model: a Messages API server that answers at once, so that a turn's time is ours.
 *
 * What the last user message says decides:
 *
 *   "hold"           nothing is sent until POST /release: a slow model
 *   "wait:MS"        the text, so many milliseconds later
 *   "run:COMMAND"    a call of the tool bash; after its result, the text
 *   anything else    the text
 *
 * GET /stats: {"requests","waiting","last_ns"}; last_ns is CLOCK_MONOTONIC when the newest request
 * was complete.
 */
#include "samples.h"
#include "server.h"

static struct list held;
static int64_t requests, waiting, last_ns, calls;

#define EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"

static const char start_frames[] =
    EVENT("message_start",
          ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\","
          "\"model\":\"claude-bench\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
          "\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}");

static const char text_frames[] = EVENT(
    "content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
    EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ok\"}")
        EVENT("content_block_stop", ",\"index\":0")
            EVENT("message_delta",
                  ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                  "\"usage\":{\"output_tokens\":2}") EVENT("message_stop", "");

static const char stop_tool_frames[] = EVENT("content_block_stop", ",\"index\":0")
    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},"
                           "\"usage\":{\"output_tokens\":9}") EVENT("message_stop", "");

static void put_tool(struct buf *b, struct str command)
{
    buf_printf(b,
               "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
               "\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_bench%lld\",\"name\":"
               "\"bash\",\"input\":{}}}\n\n",
               (long long)++calls);
    /* The command is still escaped as it came: one more escape makes it text inside a string. */
    buf_z(b, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
             "\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"command\\\":\\\"");
    for (size_t i = 0; i < command.len; i++) {
        if (command.ptr[i] == '\\')
            buf_ch(b, '\\');
        buf_ch(b, command.ptr[i]);
    }
    buf_z(b, "\\\"}\"}}\n\n");
    buf_z(b, stop_tool_frames);
}

static void answer(struct peer *p, struct str command)
{
    static struct buf frames = BUF_INIT(1024 * 1024), out = BUF_INIT(1024 * 1024);
    buf_clear(&frames);
    buf_clear(&out);
    buf_z(&frames, start_frames);
    if (str_some(command))
        put_tool(&frames, command);
    else
        buf_z(&frames, text_frames);
    buf_printf(&out,
               "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
               "Transfer-Encoding: chunked\r\n\r\n%zx\r\n",
               frames.len);
    buf_str(&out, buf_view(&frames));
    buf_z(&out, "\r\n0\r\n\r\n");
    peer_send(p, buf_view(&out));
}

static void on_timer(uv_timer_t *t)
{
    answer(CONTAINER_OF(t, struct peer, timer), STR_NONE);
}

/* What follows the last `needle`, or an absent view. */
static struct str after_last(struct str s, struct str needle)
{
    for (size_t i = s.len; i-- > 0;) {
        if (s.ptr[i] == needle.ptr[0] && str_starts(str_skip(s, i), needle))
            return str_skip(s, i + needle.len);
    }
    return STR_NONE;
}

/* After `mark`, up to the end of the JSON string it stands in. */
static struct str said(struct str message, struct str mark)
{
    struct str rest = after_last(message, mark);
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.ptr[i] == '\\')
            i++;
        else if (rest.ptr[i] == '"')
            return str_take(rest, i);
    }
    return STR_NONE;
}

static void message(struct peer *p)
{
    struct str user = after_last(buf_view(&p->body), STR("\"role\":\"user\""));
    bool result = str_some(after_last(user, STR("\"tool_result\"")));
    struct str delay = said(user, STR("\"wait:")), command = said(user, STR("\"run:"));
    int64_t ms = 0;
    requests++;
    last_ns = now_ns();
    if (str_some(after_last(user, STR("\"hold\"")))) {
        waiting++;
        list_push(&held, &p->link);
    } else if (str_i64(delay, &ms)) {
        uv_timer_start(&p->timer, on_timer, (uint64_t)ms, 0);
    } else {
        answer(p, result ? STR_NONE : command);
    }
}

static void release(void)
{
    for (struct list *it; (it = list_pop(&held)) != NULL;)
        answer(LIST_ENTRY(it, struct peer, link), STR_NONE);
}

static void reply_stats(struct peer *p)
{
    struct buf b = BUF_INIT(4096);
    int64_t now = 0;
    list_for_each (it, &held)
        now++;
    buf_printf(&b, "{\"requests\":%lld,\"waiting\":%lld,\"waited\":%lld,\"last_ns\":%lld}",
               (long long)requests, (long long)now, (long long)waiting, (long long)last_ns);
    peer_reply(p, "application/json", buf_view(&b));
    buf_fini(&b);
}

static void request(struct peer *p)
{
    struct str path = buf_view(&p->path);
    if (str_ends(path, STR("/v1/messages"))) {
        message(p);
    } else if (str_eqz(path, "/release")) {
        release();
        reply_stats(p);
    } else {
        reply_stats(p);
    }
}

int main(void)
{
    list_init(&held);
    server_run(request);
    return 0;
}
