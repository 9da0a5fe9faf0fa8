#include "api/metadata.h"

#include "api/compact.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

static int refuse(struct err *err, const char *at, struct str key, const char *why, int limit)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, key);
    if (limit)
        json_fail(err, where, NULL, "%s of at most %d characters", why, limit);
    else
        json_fail(err, where, NULL, "%s", why);
    err->detail = "invalid_metadata";
    return ERR_INVALID;
}

static int too_many(struct err *err, const char *at)
{
    json_fail(err, at, NULL, "At most %d pairs are allowed", LIMIT_METADATA_PAIRS);
    err->detail = "invalid_metadata";
    return ERR_INVALID;
}

int metadata_check(const struct json *bag, bool patch, const char *at, struct err *err)
{
    if (!bag || bag->type == JSON_NULL)
        return 0;
    if (bag->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    json_for_each (it, bag) {
        if (it->key.len == 0)
            return refuse(err, at, it->key, "A key must not be empty", 0);
        if (str_utf8_len(it->key) > LIMIT_METADATA_KEY_CHARS)
            return refuse(err, at, it->key, "A key is a string", LIMIT_METADATA_KEY_CHARS);
        if (patch && it->type == JSON_NULL)
            continue;
        if (it->type != JSON_STRING || str_utf8_len(it->str) > LIMIT_METADATA_VALUE_CHARS)
            return refuse(err, at, it->key, "A value is a string", LIMIT_METADATA_VALUE_CHARS);
    }
    /* A patch may name more keys than it leaves behind; the merge counts those. */
    return !patch && bag->count > LIMIT_METADATA_PAIRS ? too_many(err, at) : 0;
}

static bool deletes(const struct json *v, bool empty_deletes)
{
    return v->type == JSON_NULL || (empty_deletes && v->str.len == 0);
}

static const struct json *find(const struct json *bag, struct str key)
{
    json_for_each (it, bag)
        if (str_eq(it->key, key))
            return it;
    return NULL;
}

static size_t merge(struct jw *w, const struct json *old, const struct json *patch,
                    bool empty_deletes)
{
    size_t n = 0;
    json_for_each (it, old) {
        const struct json *change = find(patch, it->key);
        if (change && deletes(change, empty_deletes))
            continue;
        jw_key_str(w, it->key);
        jw_str(w, change ? change->str : it->str);
        n++;
    }
    json_for_each (it, patch) {
        if (find(old, it->key) || deletes(it, empty_deletes))
            continue;
        jw_key_str(w, it->key);
        jw_str(w, it->str);
        n++;
    }
    return n;
}

int metadata_merge(struct arena *a, struct str stored, const struct json *patch, bool empty_deletes,
                   const char *at, struct str *out, struct err *err)
{
    const struct json *old = NULL;
    int rc = str_some(stored) ? json_parse(a, stored, 0, &old, err) : 0;
    if (rc)
        return rc;
    if (!json_is(patch, JSON_OBJECT))
        patch = NULL;
    struct buf b = BUF_INIT(256 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    size_t n = merge(&w, old, patch, empty_deletes);
    jw_obj_end(&w);
    if (n > LIMIT_METADATA_PAIRS) {
        buf_fini(&b);
        return too_many(err, at);
    }
    return compact_keep(a, &b, out, err);
}
