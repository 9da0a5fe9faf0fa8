/* answer_fixture: what an owner of a decoder sees, as one text, so that tables can state it, and
 * the ways to feed a decoder. Header of the tests of both decoders. */
#ifndef OSTLER_TESTS_ANSWER_FIXTURE_H
#define OSTLER_TESTS_ANSWER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/answer.h"

#include <stdio.h>

/* ---- what an owner of the decoder sees, as one text ---- */

struct seen {
    struct buf log; /* call-backs */
    struct answer s;
    int stop_after; /* call-backs; 0: never */
};

static void called(struct seen *t)
{
    if (t->stop_after && --t->stop_after == 0)
        answer_stop(&t->s);
}

static void on_block(void *arg, size_t index, enum model_block_type type)
{
    struct seen *t = arg;
    buf_printf(&t->log, "[%zu:%d]", index, (int)type);
    called(t);
}

static void on_text(void *arg, size_t index, struct str text)
{
    struct seen *t = arg;
    buf_printf(&t->log, "%zu=" STR_FMT ";", index, STR_ARG(text));
    called(t);
}

static const struct model_callbacks callbacks = {.block_start = on_block, .text_delta = on_text};

static inline void seen_init(struct seen *t, const struct answer_decoder *decoder)
{
    *t = (struct seen){.log = BUF_INIT(1 << 20)};
    answer_init(&t->s, decoder, &callbacks, t);
}

static inline void seen_fini(struct seen *t)
{
    answer_fini(&t->s);
    buf_fini(&t->log);
}

/* The outcome as text, so that tables can state it. */
static inline void describe(struct seen *t, struct buf *out)
{
    buf_str(out, buf_view(&t->log));
    if (t->s.state == ANSWER_FAILED) {
        buf_printf(out, " failed %d %s", (int)t->s.failure.kind, t->s.failure.message);
        return;
    }
    assert_int_equal(t->s.state, ANSWER_DONE);
    const struct model_result *r = &t->s.result;
    buf_printf(out, " stop %d", (int)r->stop);
    for (size_t i = 0; i < r->nblocks; i++) {
        const struct model_block *b = &r->blocks[i];
        buf_printf(out, " |%d " STR_FMT STR_FMT STR_FMT "%s" STR_FMT "%s", (int)b->type,
                   STR_ARG(b->text), STR_ARG(b->raw), STR_ARG(b->name), b->name.len ? " " : "",
                   STR_ARG(b->input), b->input_malformed ? " MALFORMED" : "");
    }
    if (str_some(r->refusal_category) || str_some(r->refusal_explanation))
        buf_printf(out, " refusal " STR_FMT ":" STR_FMT, STR_ARG(r->refusal_category),
                   STR_ARG(r->refusal_explanation));
    buf_printf(out, " usage %d/%d/%d/%d/%d", (int)r->usage.input_tokens,
               (int)r->usage.output_tokens, (int)r->usage.cache_read_tokens,
               (int)r->usage.cache_write_5m_tokens, (int)r->usage.cache_write_1h_tokens);
}

struct transcript {
    const char *name, *sse, *want;
};

static inline void check(const struct transcript *t, struct seen *seen)
{
    AUTO_BUF struct buf got = BUF_INIT(1 << 20);
    answer_end(&seen->s, NULL);
    describe(seen, &got);
    if (strcmp(got.data, t->want) != 0)
        print_error("transcript: %s\n", t->name);
    assert_string_equal(got.data, t->want);
}

static inline void decode_at_every_split(const struct answer_decoder *decoder,
                                         const struct transcript *transcripts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct str all = str_z(transcripts[i].sse);
        for (size_t cut = 0; cut <= all.len; cut++) {
            struct seen seen;
            seen_init(&seen, decoder);
            answer_feed(&seen.s, str_take(all, cut));
            answer_feed(&seen.s, str_skip(all, cut));
            check(&transcripts[i], &seen);
            seen_fini(&seen);
        }
    }
}

static inline void decode_byte_by_byte(const struct answer_decoder *decoder,
                                       const struct transcript *transcripts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct seen seen;
        seen_init(&seen, decoder);
        for (struct str all = str_z(transcripts[i].sse); all.len; all = str_skip(all, 1))
            answer_feed(&seen.s, str_take(all, 1));
        check(&transcripts[i], &seen);
        seen_fini(&seen);
    }
}

static inline void decode_messages(const struct answer_decoder *decoder,
                                   const struct transcript *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct seen seen;
        seen_init(&seen, decoder);
        answer_message(&seen.s, str_z(messages[i].sse));
        check(&messages[i], &seen);
        seen_fini(&seen);
    }
}

#endif
