#include "api/header.h"

bool header_lists(struct str list, const char *name)
{
    while (str_some(list))
        if (str_eqz(str_trim(str_split(&list, ',')), name))
            return true;
    return false;
}

bool header_is_json(struct str type)
{
    type = str_trim(str_split(&type, ';'));
    return str_eq_nocase(type, STR("application/json")) ||
           (type.len > 17 && str_eq_nocase(str_take(type, 12), STR("application/")) &&
            str_eq_nocase(str_skip(type, type.len - 5), STR("+json")));
}

int header_idempotency_key(struct str value, struct str *out, struct err *err)
{
    struct str key = str_trim(value);
    if (key.len > IDEMPOTENCY_KEY_MAX || !str_utf8(key))
        return err_at(err, ERR_INVALID, "idempotency-key",
                      "idempotency-key: Input should be text of at most %d bytes",
                      IDEMPOTENCY_KEY_MAX);
    *out = key.len > 0 ? key : STR_NONE;
    return 0;
}

struct str header_api_key(struct str api_key, struct str authorization)
{
    struct str key = str_trim(api_key);
    if (key.len > 0)
        return key;
    if (!str_eq_nocase(str_take(authorization, 7), STR("Bearer ")))
        return STR_NONE;
    key = str_trim(str_skip(authorization, 7));
    return key.len > 0 ? key : STR_NONE;
}
