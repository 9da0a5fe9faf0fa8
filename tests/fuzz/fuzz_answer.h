/* fuzz_answer: any bytes as a stream and as a whole message, through one of the decoders.
 *
 * What must hold: the outcome does not depend on how the bytes were cut; a thinking block and a
 * well-formed tool input parse as JSON; text is valid UTF-8; a failure has a printable message. */
#ifndef OSTLER_TESTS_FUZZ_ANSWER_H
#define OSTLER_TESTS_FUZZ_ANSWER_H

#include "model/answer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static void require_json(struct str text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 28);
    const struct json *v;
    REQUIRE(json_parse(&a, text, JSON_ALLOW_DUPLICATES, &v, NULL) == 0 && v->type == JSON_OBJECT);
}

static void require_sound(const struct answer *s)
{
    REQUIRE(answer_over(s));
    if (s->state == ANSWER_FAILED) {
        REQUIRE(str_utf8(str_z(s->failure.message)) && s->failure.message[0]);
        return;
    }
    for (size_t i = 0; i < s->result.nblocks; i++) {
        const struct model_block *b = &s->result.blocks[i];
        if (b->type == MODEL_TEXT)
            REQUIRE(str_utf8(b->text));
        else if (b->type == MODEL_THINKING)
            require_json(b->raw);
        else if (!b->input_malformed)
            require_json(b->input);
    }
}

static void require_same(const struct answer *a, const struct answer *b)
{
    REQUIRE(a->state == b->state);
    if (a->state == ANSWER_FAILED)
        return;
    REQUIRE(a->result.nblocks == b->result.nblocks && a->result.stop == b->result.stop);
    for (size_t i = 0; i < a->result.nblocks; i++) {
        const struct model_block *x = &a->result.blocks[i], *y = &b->result.blocks[i];
        REQUIRE(x->type == y->type && str_eq(x->text, y->text) && str_eq(x->raw, y->raw) &&
                str_eq(x->name, y->name) && str_eq(x->input, y->input));
    }
}

static inline int fuzz_answer(const struct answer_decoder *decoder, const uint8_t *data,
                              size_t size)
{
    struct str all = str_n((const char *)data, size);
    struct answer whole, pieces, message;
    answer_init(&whole, decoder, NULL, NULL);
    answer_feed(&whole, all);
    answer_end(&whole, "cut");
    require_sound(&whole);
    answer_init(&pieces, decoder, NULL, NULL);
    size_t step = size ? data[0] % 7u + 1 : 1;
    for (struct str rest = all; rest.len; rest = str_skip(rest, step))
        answer_feed(&pieces, str_take(rest, step));
    answer_end(&pieces, "cut");
    require_sound(&pieces);
    require_same(&whole, &pieces);
    answer_init(&message, decoder, NULL, NULL);
    answer_message(&message, all);
    require_sound(&message);
    answer_fini(&whole);
    answer_fini(&pieces);
    answer_fini(&message);
    return 0;
}

#endif
