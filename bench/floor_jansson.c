#include "floor_jansson.h"

#include "samples.h"

#include <jansson.h>

int64_t jansson_parse(struct str text)
{
    json_error_t error;
    int64_t from = now_ns();
    json_t *doc = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (!doc)
        die("jansson: %s", error.text);
    json_decref(doc);
    return now_ns() - from;
}
