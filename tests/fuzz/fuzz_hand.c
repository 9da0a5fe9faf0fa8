/* Fuzzes the hand's protocol: bytes in any portions, cut into frames, decoded as requests; what a
 * decoder accepts must survive being written and read again. */
#include "hand/proto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct proto_request *r)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 22);
    size_t at = proto_begin(&b);
    proto_write_run(&b, r->id, r->tool, r->input->raw, r->timeout_ms);
    proto_end(&b, at);
    struct str payload;
    size_t used;
    struct err err;
    if (!buf_ok(&b))
        return;
    if (proto_cut(&b, 1 << 22, &payload, &used, &err) != 1 || used != b.len)
        abort();
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 24);
    struct proto_request again;
    if (proto_decode(&a, payload, &again, &err) != 0)
        abort();
    if (!str_eq(again.id, r->id) || !str_eq(again.tool, r->tool) ||
        !str_eq(again.input->raw, r->input->raw) || again.timeout_ms != r->timeout_ms)
        abort();
}

static void decode(struct str payload)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 24);
    struct proto_request r;
    struct err err;
    if (proto_decode(&a, payload, &r, &err) != 0)
        return;
    if (r.op == PROTO_RUN)
        write_again(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf in = BUF_INIT(1 << 22);
    size_t portion = size ? data[0] % 7 + 1 : 1;
    for (size_t at = size ? 1 : 0; at < size; at += portion) {
        buf_put(&in, data + at, size - at < portion ? size - at : portion);
        struct str payload;
        size_t used;
        struct err err;
        int rc;
        while ((rc = proto_cut(&in, 1 << 20, &payload, &used, &err)) > 0) {
            decode(payload);
            buf_consume(&in, used);
        }
        if (rc < 0)
            break;
    }
    /* Most random bytes are no frame: the decoder alone sees them too. */
    decode(str_n((const char *)data, size));
    return 0;
}
