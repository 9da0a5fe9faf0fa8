#include "cli/verdict.h"

#include <stdio.h>

enum { LINE_BYTES = 600 };

static void styled(const struct term *t, struct buf *out, enum term_style style, const char *z)
{
    term_style(t, out, style);
    buf_z(out, z);
    term_style(t, out, TERM_PLAIN);
}

static void put_line(struct buf *out, struct str line)
{
    struct str cut = str_utf8_take(line, LINE_BYTES);
    term_safe_line(out, cut);
    buf_z(out, cut.len < line.len ? "..." : "");
}

/* Line by line, dim. */
static void put_block(const struct term *t, struct buf *out, struct str text, const char *lead,
                      size_t lines)
{
    size_t n = 0, more = 0;
    text = str_trim(text);
    while (str_some(text) && text.len) {
        struct str line = str_split(&text, '\n');
        if (lines && n >= lines) {
            more++;
            continue;
        }
        n++;
        buf_z(out, lead);
        term_style(t, out, TERM_DIM);
        put_line(out, line);
        term_style(t, out, TERM_PLAIN);
        buf_ch(out, '\n');
    }
    if (!more)
        return;
    buf_z(out, lead);
    term_style(t, out, TERM_DIM);
    buf_printf(out, "(%zu more line%s)", more, more == 1 ? "" : "s");
    term_style(t, out, TERM_PLAIN);
    buf_ch(out, '\n');
}

void verdict_result(const struct term *t, struct buf *out, struct str result)
{
    static const struct {
        const char *result, *words;
        enum term_style style;
    } table[] = {
        {"satisfied", "satisfied", TERM_GREEN},
        {"needs_revision", "needs revision", TERM_YELLOW},
        {"max_iterations_reached", "not satisfied, no iteration left", TERM_RED},
        {"failed", "failed", TERM_RED},
        {"interrupted", "interrupted", TERM_RED},
        {"pending", "pending", TERM_PLAIN},
        {"running", "the agent works", TERM_PLAIN},
        {"evaluating", "the grader looks", TERM_PLAIN},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        if (str_eqz(result, table[i].result)) {
            styled(t, out, table[i].style, table[i].words);
            return;
        }
    put_line(out, result);
}

static void put_criterion(const struct term *t, struct buf *out, const struct json *c,
                          const char *lead, size_t lines)
{
    struct str verdict = json_get_str(c, "verdict"), comment = json_get_str(c, "comment");
    bool met = str_eqz(verdict, "met"), partial = str_eqz(verdict, "partially_met");
    char below[64];
    buf_z(out, lead);
    styled(t, out,
           met       ? TERM_GREEN
           : partial ? TERM_YELLOW
                     : TERM_RED,
           met       ? "met            "
           : partial ? "partially met  "
                     : "not met        ");
    put_line(out, json_get_str(c, "name"));
    buf_ch(out, '\n');
    snprintf(below, sizeof below, "%s               ", lead);
    if (str_some(comment) && comment.len) {
        buf_z(out, below);
        put_line(out, str_trim(comment));
        buf_ch(out, '\n');
    }
    put_block(t, out, json_get_str(c, "evidence"), below, lines);
}

void verdict_criteria(const struct term *t, struct buf *out, const struct json *criteria,
                      struct str explanation, const char *lead, size_t lines)
{
    if (!json_is(criteria, JSON_ARRAY) || !criteria->count) {
        put_block(t, out, explanation, lead, lines ? lines * 4 : 0);
        return;
    }
    json_for_each (c, criteria)
        put_criterion(t, out, c, lead, lines);
}

/* ---- usage ---- */

static int64_t number(const struct json *obj, const char *key)
{
    int64_t v = 0;
    return json_i64(json_get(obj, key), &v) && v > 0 ? v : 0;
}

int64_t verdict_tokens(const struct json *usage)
{
    return number(usage, "input_tokens") + number(usage, "output_tokens") +
           number(usage, "cache_read_input_tokens") + number(usage, "cache_creation_input_tokens");
}

int64_t verdict_cost(const struct json *end)
{
    int64_t v = 0;
    return json_i64(json_get(end, "cost_microusd"), &v) && v >= 0 ? v : -1;
}

void verdict_spent(struct buf *out, const struct json *end)
{
    int64_t cost = verdict_cost(end);
    term_count(out, verdict_tokens(json_get(end, "usage")));
    buf_z(out, " tokens");
    if (cost < 0)
        return;
    buf_z(out, ", ");
    term_money(out, cost);
}
