#include "hand/proto.h"

#include "json/decode.h"

static const char *const op_names[] = {"run",   "query", "ack",      "ack_all", "cancel",
                                       "limit", "ping",  "shutdown", "network", NULL};

int proto_cut(const struct buf *in, size_t max, struct str *payload, size_t *used, struct err *err)
{
    if (in->len < PROTO_HEAD)
        return 0;
    const unsigned char *h = (const unsigned char *)in->data;
    size_t len = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | (size_t)h[3];
    if (len > max)
        return err_set(err, ERR_TOO_LARGE, "a frame of %zu bytes came; the limit is %zu", len, max);
    if (in->len - PROTO_HEAD < len)
        return 0;
    *payload = str_n(in->data + PROTO_HEAD, len);
    *used = PROTO_HEAD + len;
    return 1;
}

struct wire {
    int op;
    struct str id, tool, reason, message;
    const struct json *input;
    int64_t timeout_ms;
};

static const struct json_field fields[] = {
    JSON_FIELD_ENUM(struct wire, op, "op", .required = true, .names = op_names),
    JSON_FIELD_STR(struct wire, id, "id", .min = 1, .max = PROTO_ID_MAX - 1),
    JSON_FIELD_STR(struct wire, tool, "tool", .min = 1, .max = 64),
    JSON_FIELD_ANY(struct wire, input, "input", .type = JSON_OBJECT),
    JSON_FIELD_I64(struct wire, timeout_ms, "timeout_ms", .min = 1, .max = 24 * 3600 * 1000),
    JSON_FIELD_STR(struct wire, reason, "reason", .min = 1, .max = PROTO_REASON_MAX - 1),
    JSON_FIELD_STR(struct wire, message, "message", .max = 4096),
    JSON_FIELD_END,
};

/* Ids become file names and map keys. */
static bool plain_id(struct str id)
{
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return id.len > 0;
}

static int check(const struct wire *w, struct err *err)
{
    bool needs_id =
        w->op == PROTO_RUN || w->op == PROTO_QUERY || w->op == PROTO_ACK || w->op == PROTO_CANCEL;
    if (needs_id && !plain_id(w->id))
        return json_fail(err, "", "id", "must be made of letters, digits, '_' and '-'");
    if (w->op == PROTO_RUN && !w->input)
        return json_fail(err, "", "input", "Field required");
    if (w->op == PROTO_RUN && !str_some(w->tool))
        return json_fail(err, "", "tool", "Field required");
    if (w->op == PROTO_LIMIT && !plain_id(w->reason))
        return json_fail(err, "", "reason", "must be made of letters, digits, '_' and '-'");
    return 0;
}

int proto_decode(struct arena *a, struct str payload, struct proto_request *out, struct err *err)
{
    const struct json *doc;
    /* A model's tool input may hold equal keys: the last one counts. */
    int rc = json_parse(a, payload, JSON_ALLOW_DUPLICATES, &doc, err);
    struct wire w;
    if (rc == 0)
        rc = json_decode(doc, fields, &w, sizeof w, "", err);
    if (rc == 0)
        rc = check(&w, err);
    if (rc)
        return rc;
    *out = (struct proto_request){.op = (enum proto_op)w.op,
                                  .id = w.id,
                                  .tool = w.tool,
                                  .input = w.input,
                                  .timeout_ms = w.timeout_ms ? w.timeout_ms : LIMIT_TOOL_MS,
                                  .reason = w.reason,
                                  .message = w.message};
    return 0;
}

size_t proto_begin(struct buf *out)
{
    size_t begun = out->len;
    buf_put(out, "\0\0\0\0", PROTO_HEAD);
    return begun;
}

void proto_end(struct buf *out, size_t begun)
{
    if (!buf_ok(out))
        return;
    size_t n = out->len - begun - PROTO_HEAD;
    unsigned char head[PROTO_HEAD] = {(unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                      (unsigned char)(n >> 8), (unsigned char)n};
    memcpy(out->data + begun, head, sizeof head);
}

void proto_write_state(struct buf *out, const char *op, struct str id, const char *state)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "op", op);
    if (str_some(id))
        jw_kstr(&w, "id", id);
    if (state)
        jw_kz(&w, "state", state);
    jw_obj_end(&w);
    jw_done(&w);
}

void proto_write_result(struct buf *out, const struct proto_result *r)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "op", "result");
    jw_kstr(&w, "id", r->id);
    jw_key(&w, "content");
    jw_str(&w, r->content);
    jw_kbool(&w, "is_error", r->is_error);
    jw_kstr(&w, "reason", r->reason);
    jw_obj_end(&w);
    jw_done(&w);
}

void proto_write_run(struct buf *out, struct str id, struct str tool, struct str input,
                     int64_t timeout_ms)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "op", "run");
    jw_kstr(&w, "id", id);
    jw_kstr(&w, "tool", tool);
    jw_ki64(&w, "timeout_ms", timeout_ms);
    jw_kraw(&w, "input", input);
    jw_obj_end(&w);
    jw_done(&w);
}
