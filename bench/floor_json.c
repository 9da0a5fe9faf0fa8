/* floor_json: json/ beside jansson on the same text: MB/s of parsing, in turns.
 *
 *   floor_json MS     half of the time each; prints the medians
 *
 * The text is a page of events, as a client would list them. jansson builds a mutable tree of
 * counted values with hashed objects, json/ an immutable tree in an arena: each does what it is
 * for, so this compares what one pays for a document, not equal work.
 */
#include "floor_jansson.h"
#include "samples.h"

#include "json/json.h"
#include "json/writer.h"

enum { EVENTS = 2000 };

static void make_text(struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (int i = 0; i < EVENTS; i++) {
        jw_obj(&w);
        jw_kz(&w, "id", "sevt_01GzHk7YcPqVmNwR2sTbXe4J");
        jw_kz(&w, "type", i % 2 ? "agent.message" : "user.message");
        jw_key(&w, "content");
        jw_arr(&w);
        jw_obj(&w);
        jw_kz(&w, "type", "text");
        jw_kz(&w, "text",
              "A line of text with \"quotes\", a line end\nand an umlaut: \xc3\xa4. "
              "The quick brown fox jumps over the lazy dog, again and again and again.");
        jw_obj_end(&w);
        jw_arr_end(&w);
        jw_key(&w, "usage");
        jw_obj(&w);
        jw_ki64(&w, "input_tokens", 1000 + i);
        jw_ki64(&w, "output_tokens", i);
        jw_kbool(&w, "cached", i % 3 == 0);
        jw_obj_end(&w);
        jw_kz(&w, "processed_at", "2026-11-20T21:20:21.123456Z");
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    jw_knull(&w, "next_page");
    jw_obj_end(&w);
    jw_done(&w);
}

static int64_t parse_ours(struct str text)
{
    static struct arena a;
    static bool ready;
    const struct json *doc;
    struct err err;
    if (!ready)
        arena_init(&a, LIMIT_JSON_ARENA);
    ready = true;
    int64_t from = now_ns();
    if (json_parse(&a, text, 0, &doc, &err))
        die("json: %s", err.msg);
    arena_reset(&a);
    return now_ns() - from;
}

static int64_t write_ours(struct buf *b)
{
    buf_clear(b);
    int64_t from = now_ns();
    make_text(b);
    return now_ns() - from;
}

static double rate(struct samples *s, size_t len)
{
    return (double)len / 1e6 / ((double)samples_at(s, 0.5) / 1e9);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage: floor_json MS");
    AUTO_BUF struct buf text = BUF_INIT(16 * 1024 * 1024), again = BUF_INIT(16 * 1024 * 1024);
    struct samples ours = {0}, theirs = {0}, written = {0};
    make_text(&text);
    for (int64_t until = now_ns() + number(argv[1], 1, 600000) * 1000000; now_ns() < until;) {
        samples_add(&ours, parse_ours(buf_view(&text)));
        samples_add(&theirs, jansson_parse(buf_view(&text)));
        samples_add(&written, write_ours(&again));
    }
    printf("{\"bytes\":%zu,\"parse_mb_s\":%.1f,\"jansson_mb_s\":%.1f,\"write_mb_s\":%.1f}\n",
           text.len, rate(&ours, text.len), rate(&theirs, text.len), rate(&written, text.len));
    samples_fini(&ours);
    samples_fini(&theirs);
    samples_fini(&written);
    return 0;
}
