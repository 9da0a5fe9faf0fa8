#include "api/event_decode.h"

#include "api/compact.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

/* ---- content blocks ---- */

struct block_in {
    const struct json *type, *text, *source, *title, *context;
};

static const struct json_field text_fields[] = {
    JSON_FIELD_ANY(struct block_in, type, "type"),
    JSON_FIELD_ANY(struct block_in, text, "text", .type = JSON_STRING, .required = true, .min = 1,
                   .max = -1),
    JSON_FIELD_END};
static const struct json_field image_fields[] = {
    JSON_FIELD_ANY(struct block_in, type, "type"),
    JSON_FIELD_ANY(struct block_in, source, "source", .type = JSON_OBJECT, .required = true),
    JSON_FIELD_END};
static const struct json_field document_fields[] = {
    JSON_FIELD_ANY(struct block_in, type, "type"),
    JSON_FIELD_ANY(struct block_in, source, "source", .type = JSON_OBJECT, .required = true),
    JSON_FIELD_ANY(struct block_in, title, "title", .type = JSON_STRING, .nullable = true),
    JSON_FIELD_ANY(struct block_in, context, "context", .type = JSON_STRING, .nullable = true),
    JSON_FIELD_END};

struct source_in {
    const struct json *type;
    struct str data, url;
    int media_type;
};

static const char *const image_types[] = {"image/png", "image/jpeg", "image/gif", "image/webp",
                                          NULL};
static const char *const document_types[] = {"application/pdf", NULL};
static const char *const plain_types[] = {"text/plain", NULL};

#define DATA_FIELDS(kinds)                                                                         \
    {                                                                                              \
        JSON_FIELD_ANY(struct source_in, type, "type"),                                            \
            JSON_FIELD_STR(struct source_in, data, "data", .required = true, .min = 1, .max = -1), \
            JSON_FIELD_ENUM(struct source_in, media_type, "media_type", .required = true,          \
                            .names = kinds),                                                       \
            JSON_FIELD_END                                                                         \
    }

static const struct json_field base64_image_fields[] = DATA_FIELDS(image_types);
static const struct json_field base64_document_fields[] = DATA_FIELDS(document_types);
static const struct json_field plain_fields[] = DATA_FIELDS(plain_types);
static const struct json_field url_fields[] = {
    JSON_FIELD_ANY(struct source_in, type, "type"),
    JSON_FIELD_STR(struct source_in, url, "url", .required = true, .min = 1, .max = 8192),
    JSON_FIELD_END};

static bool base64_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

static bool base64_text(struct str s)
{
    size_t n = s.len;
    while (n > 0 && s.len - n < 2 && s.ptr[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        if (!base64_char(s.ptr[i]))
            return false;
    return n > 0 && s.len % 4 == 0;
}

static int check_url(struct str url, const char *at, struct err *err)
{
    if (!str_starts(url, STR("https://")) && !str_starts(url, STR("http://")))
        return json_fail(err, at, "url", "Input should be an http or https URL");
    for (size_t i = 0; i < url.len; i++)
        if ((unsigned char)url.ptr[i] <= 0x20 || url.ptr[i] == 0x7f)
            return json_fail(err, at, "url", "A URL holds no blanks or control characters");
    return 0;
}

static int check_source(const struct json *source, bool image, const char *at, struct err *err)
{
    struct source_in in;
    struct str type = json_get_str(source, "type");
    int rc;
    if (str_eqz(type, "url")) {
        rc = json_decode(source, url_fields, &in, sizeof in, at, err);
        return rc ? rc : check_url(in.url, at, err);
    }
    if (str_eqz(type, "base64")) {
        rc = json_decode(source, image ? base64_image_fields : base64_document_fields, &in,
                         sizeof in, at, err);
        if (!rc && !base64_text(in.data))
            rc = json_fail(err, at, "data", "Input should be base64 with padding");
        return rc;
    }
    if (str_eqz(type, "text") && !image)
        return json_decode(source, plain_fields, &in, sizeof in, at, err);
    if (str_eqz(type, "file"))
        return json_fail(err, at, "type",
                         "'file' sources are not supported by this version; send the data");
    return json_fail(err, at, "type", "Input should be %s",
                     image ? "'base64' or 'url'" : "'base64', 'text' or 'url'");
}

static int check_block(const struct json *block, const char *at, struct err *err)
{
    struct block_in in;
    if (block->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    struct str type = json_get_str(block, "type");
    if (str_eqz(type, "text"))
        return json_decode(block, text_fields, &in, sizeof in, at, err);
    bool image = str_eqz(type, "image");
    if (!image && !str_eqz(type, "document")) {
        if (str_eqz(type, "redacted"))
            return json_fail(err, at, "type", "Clients cannot send redacted blocks");
        return json_fail(err, at, "type",
                         json_get(block, "type") ? "Input should be 'text', 'image' or 'document'"
                                                 : "Field required");
    }
    int rc = json_decode(block, image ? image_fields : document_fields, &in, sizeof in, at, err);
    if (rc)
        return rc;
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("source"));
    return check_source(in.source, image, where, err);
}

static int check_content(const struct json *content, const char *at, struct err *err)
{
    size_t i = 0;
    json_for_each (block, content) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("content"));
        json_pointer_index(where, where, i++);
        int rc = check_block(block, where, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- events ---- */

struct event_in {
    const struct json *type, *content, *thread;
};

static const struct json_field message_fields[] = {
    JSON_FIELD_ANY(struct event_in, type, "type"),
    JSON_FIELD_ANY(struct event_in, content, "content", .type = JSON_ARRAY, .required = true,
                   .min = 1, .max = LIMIT_CONTENT_BLOCKS),
    JSON_FIELD_END};
static const struct json_field interrupt_fields[] = {
    JSON_FIELD_ANY(struct event_in, type, "type"),
    JSON_FIELD_ANY(struct event_in, thread, "session_thread_id", .type = JSON_STRING,
                   .nullable = true),
    JSON_FIELD_END};

static int finish(struct arena *a, struct buf *b, struct jw *w, struct sent_event *out,
                  struct err *err)
{
    jw_obj_end(w);
    return compact_keep(a, b, &out->event.body, err);
}

static void begin(struct jw *w, struct sent_event *out, enum event_type type)
{
    out->event.type = type;
    out->event.id = id_new("sevt");
    jw_obj(w);
    jw_kstr(w, "id", id_str(&out->event.id));
    jw_kz(w, "type", event_name(type));
    jw_knull(w, "processed_at");
}

static int decode_message(struct arena *a, const struct json *v, const char *at,
                          struct sent_event *out, struct err *err)
{
    struct event_in in;
    int rc = json_decode(v, message_fields, &in, sizeof in, at, err);
    if (!rc)
        rc = check_content(in.content, at, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, EVENT_USER_MESSAGE);
    jw_key(&w, "content");
    compact_value(&w, in.content->raw);
    return finish(a, &b, &w, out, err);
}

static int decode_interrupt(struct arena *a, const struct json *v, const char *at,
                            struct sent_event *out, struct err *err)
{
    struct event_in in;
    int rc = json_decode(v, interrupt_fields, &in, sizeof in, at, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, EVENT_USER_INTERRUPT);
    if (json_is(in.thread, JSON_STRING)) {
        out->thread_id = in.thread->str;
        jw_kstr(&w, "session_thread_id", in.thread->str);
    }
    return finish(a, &b, &w, out, err);
}

static int refuse_type(const struct json *v, bool initial, const char *at, struct err *err)
{
    struct str name = json_get_str(v, "type");
    enum event_type type = event_type_of(name);
    const char *sent = initial ? "'user.message'" : "'user.message' or 'user.interrupt'";
    if (!json_get(v, "type"))
        return json_fail(err, at, "type", "Field required");
    switch ((int)type) {
    case EVENT_USER_TOOL_CONFIRMATION:
    case EVENT_USER_CUSTOM_TOOL_RESULT:
    case EVENT_USER_TOOL_RESULT:
    case EVENT_SYSTEM_MESSAGE:
    case EVENT_USER_INTERRUPT:
        if (initial)
            break;
        /* fall through */
    case EVENT_USER_DEFINE_OUTCOME:
        return json_fail(err, at, "type", "'%s' is not supported by this version; send %s",
                         event_name(type), sent);
    default: break;
    }
    return json_fail(err, at, "type", "Input should be %s", sent);
}

int events_decode(struct arena *a, const struct json *list, bool initial, const char *at,
                  struct sent_event **out, struct err *err)
{
    struct sent_event *events = ARENA_ARRAY(a, struct sent_event, list->count + 1);
    if (!events)
        return err_at(err, ERR_LIMIT, at, "The events are too large");
    size_t i = 0;
    json_for_each (v, list) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, at, i);
        if (v->type != JSON_OBJECT)
            return json_fail(err, where, NULL, "Input should be a valid object");
        struct str type = json_get_str(v, "type");
        int rc;
        if (str_eqz(type, "user.message"))
            rc = decode_message(a, v, where, &events[i], err);
        else if (str_eqz(type, "user.interrupt") && !initial)
            rc = decode_interrupt(a, v, where, &events[i], err);
        else
            rc = refuse_type(v, initial, where, err);
        if (rc)
            return rc;
        i++;
    }
    *out = events;
    return 0;
}
