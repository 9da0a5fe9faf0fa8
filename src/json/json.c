#include "json/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

const struct json *json_get(const struct json *obj, const char *key)
{
    if (!json_is(obj, JSON_OBJECT))
        return NULL;
    const struct json *found = NULL;
    struct str k = str_z(key);
    json_for_each (it, obj) {
        if (str_eq(it->key, k))
            found = it;
    }
    return found;
}

const struct json *json_at(const struct json *array, size_t index)
{
    if (!json_is(array, JSON_ARRAY) || index >= array->count)
        return NULL;
    const struct json *it = array->child;
    while (index--)
        it = it->next;
    return it;
}

struct str json_get_str(const struct json *obj, const char *key)
{
    const struct json *v = json_get(obj, key);
    return json_is(v, JSON_STRING) ? v->str : STR_NONE;
}

bool json_i64(const struct json *v, int64_t *out)
{
    return json_is(v, JSON_NUMBER) && str_i64(v->raw, out);
}

bool json_f64(const struct json *v, double *out)
{
    if (!json_is(v, JSON_NUMBER))
        return false;
    /* strtod wants a terminated string, and the source text is not. */
    char small[64];
    AUTO_FREE char *large = NULL;
    const char *z = small;
    if (!str_copyz(small, sizeof small, v->raw))
        z = large = mem_dupz(v->raw.ptr, v->raw.len);
    double d = strtod(z, NULL);
    if (!isfinite(d))
        return false;
    *out = d;
    return true;
}

bool json_is_true(const struct json *v)
{
    return json_is(v, JSON_BOOL) && v->boolean;
}

const char *json_type_name(enum json_type t)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",       [JSON_BOOL] = "a boolean", [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a string", [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object",
    };
    return (unsigned)t < COUNT_OF(names) ? names[t] : "an unknown type";
}
