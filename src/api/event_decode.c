#include "api/event_decode.h"

#include "api/compact.h"
#include "api/outcome_decode.h"
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
static const struct json_field result_text_fields[] = {
    JSON_FIELD_ANY(struct block_in, type, "type"),
    JSON_FIELD_ANY(struct block_in, text, "text", .type = JSON_STRING, .required = true),
    JSON_FIELD_END};
static const struct json_field search_result_fields[] = {
    JSON_FIELD_ANY(struct block_in, type, "type"),
    JSON_FIELD_ANY(struct block_in, text, "content", .type = JSON_ARRAY, .required = true),
    JSON_FIELD_ANY(struct block_in, source, "source", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct block_in, title, "title", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct block_in, context, "citations", .type = JSON_OBJECT),
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
static const struct json_field file_fields[] = {
    JSON_FIELD_ANY(struct source_in, type, "type"),
    JSON_FIELD_STR(struct source_in, data, "file_id", .required = true, .min = 1, .max = 64),
    JSON_FIELD_END};

struct citations_in {
    const struct json *enabled;
};
static const struct json_field citations_fields[] = {
    JSON_FIELD_ANY(struct citations_in, enabled, "enabled", .type = JSON_BOOL), JSON_FIELD_END};

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

/* What a message's blocks are checked into. */
struct blocks {
    bool result; /* of a tool */
    size_t nfiles, ndocuments;
};

static int check_source(struct blocks *b, const struct json *source, bool image, const char *at,
                        struct err *err)
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
    if (str_eqz(type, "file")) {
        b->nfiles++;
        b->ndocuments += !image;
        return json_decode(source, file_fields, &in, sizeof in, at, err);
    }
    return json_fail(err, at, "type", "Input should be %s",
                     image ? "'base64', 'url' or 'file'" : "'base64', 'text', 'url' or 'file'");
}

static int check_search_result(const struct json *block, const char *at, struct err *err)
{
    struct block_in in, item;
    struct citations_in citations;
    char where[ERR_AT_MAX];
    int rc = json_decode(block, search_result_fields, &in, sizeof in, at, err);
    if (!rc && in.context) {
        json_pointer_key(where, at, STR("citations"));
        rc = json_decode(in.context, citations_fields, &citations, sizeof citations, where, err);
    }
    size_t i = 0;
    json_for_each (it, rc ? NULL : in.text) {
        json_pointer_key(where, at, STR("content"));
        json_pointer_index(where, where, i++);
        rc = json_decode(it, result_text_fields, &item, sizeof item, where, err);
        if (!rc && !str_eqz(json_get_str(it, "type"), "text"))
            rc = json_fail(err, where, "type", "Input should be 'text'");
        if (rc)
            break;
    }
    return rc;
}

/* A tool may well have nothing to say: there an empty text is fine (the prompt leaves it out). */
static int check_block(struct blocks *b, const struct json *block, const char *at, struct err *err)
{
    struct block_in in;
    bool result = b->result;
    if (block->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    struct str type = json_get_str(block, "type");
    if (str_eqz(type, "text"))
        return json_decode(block, result ? result_text_fields : text_fields, &in, sizeof in, at,
                           err);
    if (str_eqz(type, "search_result") && result)
        return check_search_result(block, at, err);
    bool image = str_eqz(type, "image");
    if (!image && !str_eqz(type, "document")) {
        if (str_eqz(type, "redacted"))
            return json_fail(err, at, "type", "Clients cannot send redacted blocks");
        return json_fail(err, at, "type",
                         json_get(block, "type") ? "Input should be 'text', 'image'%s 'document'%s"
                                                 : "Field required",
                         result ? "," : " or", result ? " or 'search_result'" : "");
    }
    int rc = json_decode(block, image ? image_fields : document_fields, &in, sizeof in, at, err);
    if (rc)
        return rc;
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("source"));
    return check_source(b, in.source, image, where, err);
}

static int check_content(const struct json *content, bool result, const char *at,
                         struct sent_event *out, struct err *err)
{
    struct blocks b = {.result = result};
    size_t i = 0;
    json_for_each (block, content) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("content"));
        json_pointer_index(where, where, i++);
        int rc = check_block(&b, block, where, err);
        if (rc)
            return rc;
    }
    out->content = content;
    out->nfiles = b.nfiles;
    out->ndocuments = b.ndocuments;
    return 0;
}

static int check_system_content(const struct json *content, const char *at, struct err *err)
{
    size_t i = 0;
    json_for_each (block, content) {
        struct block_in in;
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("content"));
        json_pointer_index(where, where, i++);
        if (block->type == JSON_OBJECT && !str_eqz(json_get_str(block, "type"), "text"))
            return json_fail(err, where, "type",
                             json_get(block, "type") ? "Input should be 'text': a system.message "
                                                       "holds text only"
                                                     : "Field required");
        int rc = json_decode(block, text_fields, &in, sizeof in, where, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- events ---- */

struct event_in {
    const struct json *type, *content, *thread;
    struct str tool_use_id, deny_message;
    const struct json *is_error;
    int result;
};

static const char *const results[] = {"allow", "deny", NULL};
enum { RESULT_ALLOW };

static const struct json_field confirmation_fields[] = {
    JSON_FIELD_ANY(struct event_in, type, "type"),
    JSON_FIELD_STR(struct event_in, tool_use_id, "tool_use_id", .required = true, .min = 1,
                   .max = 64),
    JSON_FIELD_ENUM(struct event_in, result, "result", .required = true, .names = results),
    JSON_FIELD_STR(struct event_in, deny_message, "deny_message", .nullable = true, .min = 0,
                   .max = 10000),
    JSON_FIELD_ANY(struct event_in, thread, "session_thread_id", .type = JSON_STRING,
                   .nullable = true),
    JSON_FIELD_END};
#define RESULT_FIELDS(of)                                                                          \
    {                                                                                              \
        JSON_FIELD_ANY(struct event_in, type, "type"),                                             \
            JSON_FIELD_STR(struct event_in, tool_use_id, of, .required = true, .min = 1,           \
                           .max = 64),                                                             \
            JSON_FIELD_ANY(struct event_in, content, "content", .type = JSON_ARRAY,                \
                           .nullable = true, .min = 0, .max = LIMIT_CONTENT_BLOCKS),               \
            JSON_FIELD_ANY(struct event_in, is_error, "is_error", .type = JSON_BOOL,               \
                           .nullable = true),                                                      \
            JSON_FIELD_ANY(struct event_in, thread, "session_thread_id", .type = JSON_STRING,      \
                           .nullable = true),                                                      \
            JSON_FIELD_END                                                                         \
    }
static const struct json_field custom_result_fields[] = RESULT_FIELDS("custom_tool_use_id");
static const struct json_field tool_result_fields[] = RESULT_FIELDS("tool_use_id");

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
        rc = check_content(in.content, false, at, out, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, EVENT_USER_MESSAGE);
    jw_key(&w, "content");
    compact_value(&w, in.content->raw);
    return finish(a, &b, &w, out, err);
}

static int decode_system(struct arena *a, const struct json *v, const char *at,
                         struct sent_event *out, struct err *err)
{
    struct event_in in;
    int rc = json_decode(v, message_fields, &in, sizeof in, at, err);
    if (!rc)
        rc = check_system_content(in.content, at, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, EVENT_SYSTEM_MESSAGE);
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

static int decode_confirmation(struct arena *a, const struct json *v, const char *at,
                               struct sent_event *out, struct err *err)
{
    struct event_in in;
    int rc = json_decode(v, confirmation_fields, &in, sizeof in, at, err);
    if (!rc && in.result == RESULT_ALLOW && str_some(in.deny_message))
        rc = json_fail(err, at, "deny_message", "Only a denial carries a message; leave it out");
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, EVENT_USER_TOOL_CONFIRMATION);
    jw_kstr(&w, "tool_use_id", in.tool_use_id);
    jw_kz(&w, "result", results[in.result]);
    if (str_some(in.deny_message))
        jw_kstr(&w, "deny_message", in.deny_message);
    if (json_is(in.thread, JSON_STRING))
        out->thread_id = in.thread->str;
    out->answers = in.tool_use_id;
    return finish(a, &b, &w, out, err);
}

static int decode_result(struct arena *a, const struct json *v, const char *at,
                         enum event_type type, const struct json_field *fields, const char *key,
                         struct sent_event *out, struct err *err)
{
    struct event_in in;
    int rc = json_decode(v, fields, &in, sizeof in, at, err);
    if (!rc && json_is(in.content, JSON_ARRAY))
        rc = check_content(in.content, true, at, out, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY + 1024);
    struct jw w = jw_to(&b);
    begin(&w, out, type);
    jw_kstr(&w, key, in.tool_use_id);
    jw_key(&w, "content");
    compact_value(&w, json_is(in.content, JSON_ARRAY) ? in.content->raw : STR("[]"));
    if (json_is(in.is_error, JSON_BOOL))
        jw_kbool(&w, "is_error", in.is_error->boolean);
    if (json_is(in.thread, JSON_STRING))
        out->thread_id = in.thread->str;
    out->answers = in.tool_use_id;
    return finish(a, &b, &w, out, err);
}

static int decode_custom_result(struct arena *a, const struct json *v, const char *at,
                                struct sent_event *out, struct err *err)
{
    return decode_result(a, v, at, EVENT_USER_CUSTOM_TOOL_RESULT, custom_result_fields,
                         "custom_tool_use_id", out, err);
}

static int decode_tool_result(struct arena *a, const struct json *v, const char *at,
                              struct sent_event *out, struct err *err)
{
    return decode_result(a, v, at, EVENT_USER_TOOL_RESULT, tool_result_fields, "tool_use_id", out,
                         err);
}

static int refuse_type(const struct json *v, bool initial, const char *at, struct err *err)
{
    if (!json_get(v, "type"))
        return json_fail(err, at, "type", "Field required");
    if (initial)
        return json_fail(err, at, "type",
                         "Input should be 'user.message' or 'user.define_outcome'");
    return json_fail(err, at, "type",
                     "Input should be 'user.message', 'user.interrupt', 'user.define_outcome', "
                     "'user.tool_confirmation', 'user.tool_result', 'user.custom_tool_result' or "
                     "'system.message'");
}

/* What a client may send, and how it is read. */
static const struct {
    enum event_type type;
    int (*decode)(struct arena *a, const struct json *v, const char *at, struct sent_event *out,
                  struct err *err);
    bool initial; /* also at a session's creation */
} accepted[] = {
    {EVENT_USER_MESSAGE, decode_message, true},
    {EVENT_USER_DEFINE_OUTCOME, outcome_decode, true},
    {EVENT_USER_INTERRUPT, decode_interrupt, false},
    {EVENT_USER_TOOL_CONFIRMATION, decode_confirmation, false},
    {EVENT_USER_TOOL_RESULT, decode_tool_result, false},
    {EVENT_USER_CUSTOM_TOOL_RESULT, decode_custom_result, false},
    {EVENT_SYSTEM_MESSAGE, decode_system, false},
};

static int decode_one(struct arena *a, const struct json *v, bool initial, const char *at,
                      struct sent_event *out, struct err *err)
{
    if (v->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    enum event_type type = event_type_of(json_get_str(v, "type"));
    for (size_t i = 0; i < COUNT_OF(accepted); i++)
        if (accepted[i].type == type && (accepted[i].initial || !initial))
            return accepted[i].decode(a, v, at, out, err);
    return refuse_type(v, initial, at, err);
}

/* A system.message accompanies what stands before it; alone it accompanies the last turn. */
static int check_place(const struct sent_event *events, size_t n, size_t i, const char *at,
                       struct err *err)
{
    char where[ERR_AT_MAX];
    json_pointer_index(where, at, i);
    if (i + 1 < n)
        return json_fail(err, where, NULL,
                         "A system.message is the last event of its request, and the only one of "
                         "its type");
    if (i > 0 && events[i - 1].event.type != EVENT_USER_MESSAGE &&
        events[i - 1].event.type != EVENT_USER_TOOL_RESULT &&
        events[i - 1].event.type != EVENT_USER_CUSTOM_TOOL_RESULT)
        return json_fail(err, where, NULL,
                         "A system.message directly follows the user.message or the tool result "
                         "that it accompanies, not a %s",
                         event_name(events[i - 1].event.type));
    return 0;
}

static int check_outcomes(const struct sent_event *events, size_t n, const char *at,
                          struct err *err)
{
    size_t outcomes = 0;
    for (size_t i = 0; i < n; i++) {
        char where[ERR_AT_MAX];
        outcomes += events[i].event.type == EVENT_USER_DEFINE_OUTCOME;
        json_pointer_index(where, at, i);
        if (outcomes > 1)
            return json_fail(err, where, "type",
                             "At most one 'user.define_outcome' in a request; the next one goes "
                             "when this one has ended");
    }
    return 0;
}

static int check_documents(const struct sent_event *events, size_t n, const char *at,
                           struct err *err)
{
    size_t documents = 0;
    for (size_t i = 0; i < n; i++)
        documents += events[i].ndocuments;
    if (documents > LIMIT_FILE_DOCUMENTS)
        return json_fail(err, at, NULL, "At most %d document blocks may have files as sources",
                         LIMIT_FILE_DOCUMENTS);
    return 0;
}

int events_decode(struct arena *a, const struct json *list, bool initial, const char *at,
                  struct sent_event **out, struct err *err)
{
    struct sent_event *events = ARENA_ARRAY(a, struct sent_event, list->count + 1);
    if (!events)
        return err_at(err, ERR_LIMIT, at, "The events are too large");
    size_t n = 0;
    json_for_each (v, list) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, at, n);
        int rc = decode_one(a, v, initial, where, &events[n++], err);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < n; i++) {
        int rc = 0;
        if (events[i].event.type == EVENT_SYSTEM_MESSAGE)
            rc = check_place(events, n, i, at, err);
        if (rc)
            return rc;
    }
    *out = events;
    int rc = check_outcomes(events, n, at, err);
    return rc ? rc : check_documents(events, n, at, err);
}
