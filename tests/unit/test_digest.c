#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/digest.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void the_digest_is_the_published_hash_under_two_seeds(void **state)
{
    (void)state;
    /* Stored digests are compared with those of later versions: these never change. The first
     * halves are what `xxhsum -H1` says. */
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"", "ef46db3751d8e999"},
        {"abc", "44bc2cf5ad770999"},
        {"The quick brown fox jumps over the lazy dog", "0b242d361fda71bc"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct digest d;
        char hex[DIGEST_HEX_LEN + 1];
        digest_init(&d);
        digest_update(&d, cases[i].text, strlen(cases[i].text));
        digest_hex(&d, hex);
        assert_int_equal(strlen(hex), DIGEST_HEX_LEN);
        assert_memory_equal(hex, cases[i].hex, 16);
        assert_memory_not_equal(hex + 16, cases[i].hex, 16);
    }
}

static void pieces_do_not_matter_and_a_copy_goes_its_own_way(void **state)
{
    (void)state;
    char text[1000], whole[DIGEST_HEX_LEN + 1], pieces[DIGEST_HEX_LEN + 1];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 31);
    struct digest d;
    digest_init(&d);
    digest_update(&d, text, sizeof text);
    digest_hex(&d, whole);
    for (size_t step = 1; step < 100; step += 7) {
        struct digest e, copy;
        digest_init(&e);
        for (size_t at = 0; at < sizeof text; at += step) {
            copy = e;
            digest_update(&copy, "other", 5);
            digest_update(&e, text + at, step < sizeof text - at ? step : sizeof text - at);
        }
        digest_hex(&e, pieces);
        assert_string_equal(pieces, whole);
        digest_hex(&copy, pieces);
        assert_string_not_equal(pieces, whole);
    }
}

static void fields_keep_their_borders(void **state)
{
    (void)state;
    struct digest a, b;
    char ha[DIGEST_HEX_LEN + 1], hb[DIGEST_HEX_LEN + 1];
    digest_init(&a);
    digest_field(&a, STR("ab"));
    digest_field(&a, STR("c"));
    digest_init(&b);
    digest_field(&b, STR("a"));
    digest_field(&b, STR("bc"));
    digest_hex(&a, ha);
    digest_hex(&b, hb);
    assert_string_not_equal(ha, hb);
    digest_init(&a);
    digest_field(&a, STR_NONE);
    digest_init(&b);
    digest_update(&b, "", 1);
    digest_hex(&a, ha);
    digest_hex(&b, hb);
    assert_string_equal(ha, hb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_digest_is_the_published_hash_under_two_seeds),
        cmocka_unit_test(pieces_do_not_matter_and_a_copy_goes_its_own_way),
        cmocka_unit_test(fields_keep_their_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
