#include "json_reference.h"

#include <jansson.h>

static void put(struct buf *b, json_t *j)
{
    size_t i;
    json_t *v;
    const char *key;
    switch (json_typeof(j)) {
    case JSON_NULL: buf_ch(b, 'n'); return;
    case JSON_TRUE: buf_ch(b, 't'); return;
    case JSON_FALSE: buf_ch(b, 'f'); return;
    case JSON_INTEGER: buf_printf(b, "i%lld", (long long)json_integer_value(j)); return;
    case JSON_REAL: buf_printf(b, "r%a", json_real_value(j)); return;
    case JSON_STRING:
        buf_printf(b, "s%zu:", json_string_length(j));
        buf_put(b, json_string_value(j), json_string_length(j));
        return;
    case JSON_ARRAY:
        buf_printf(b, "a%zu(", json_array_size(j));
        json_array_foreach(j, i, v) put(b, v);
        buf_ch(b, ')');
        return;
    case JSON_OBJECT: /* iterated in the order of the text */
        buf_printf(b, "o%zu(", json_object_size(j));
        json_object_foreach(j, key, v)
        {
            buf_printf(b, "%zu:%s", strlen(key), key);
            put(b, v);
        }
        buf_ch(b, ')');
        return;
    }
}

enum json_reference json_reference_read(struct str text, struct buf *canonical)
{
    json_error_t e;
    json_t *j = json_loadb(text.ptr, text.len,
                           JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!j) {
        enum json_error_code code = json_error_code(&e);
        bool own = code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
                   code == json_error_stack_overflow;
        return own ? JSON_REFERENCE_OWN_LIMIT : JSON_REFERENCE_REFUSED;
    }
    put(canonical, j);
    json_decref(j);
    return JSON_REFERENCE_ACCEPTED;
}
