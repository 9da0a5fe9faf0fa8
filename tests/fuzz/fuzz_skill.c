/* A SKILL.md or an archive of any bytes, by the first one. What is taken for a skill comes out as a
 * tar that is the same skill again, byte for byte. */
#include "api/skill_pack.h"
#include "base/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void read_md(struct arena *a, struct str text)
{
    struct skill_md md;
    struct err err = {0};
    if (skill_md_read(a, text, &md, &err)) {
        must(err.code == ERR_INVALID && err.msg[0]);
        return;
    }
    must(skill_name_ok(md.name) && str_utf8(md.description));
    must(md.description.len > 0 && str_utf8_len(md.description) <= LIMIT_SKILL_DESCRIPTION);
}

static int to_buf(void *arg, struct str piece, struct err *err)
{
    struct buf *b = arg;
    (void)err;
    buf_str(b, piece);
    return 0;
}

/* False: refused. */
static bool pack(struct arena *a, struct str bytes, struct buf *out)
{
    struct skill_file file = {.path = STR("skill.zip"), .bytes = bytes};
    struct skill_pack p;
    struct err err = {0};
    int rc = skill_pack_read(a, &file, 1, &p, &err);
    must(rc == 0 || rc == ERR_INVALID || rc == ERR_TOO_LARGE);
    must(rc == 0 || err.msg[0]);
    for (size_t i = 0; rc == 0 && i < p.n; i++) {
        struct str path = p.entries[i].path;
        must(str_starts(path, p.directory) && str_find(path, STR("..")) != 0);
        must(i == 0 || str_cmp(p.entries[i - 1].path, path) < 0);
    }
    if (rc == 0)
        must(skill_pack_tar(&p, to_buf, out, &err) == 0 && buf_ok(out));
    skill_pack_fini(&p);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf one = BUF_INIT(64u << 20);
    AUTO_BUF struct buf two = BUF_INIT(64u << 20);
    struct str rest = str_n((const char *)data + 1, len - 1);
    arena_init(&a, 64u << 20);
    if (data[0] == 'm') {
        read_md(&a, rest);
    } else if (pack(&a, rest, &one)) {
        must(pack(&a, buf_view(&one), &two));
        must(str_eq(buf_view(&one), buf_view(&two)));
    }
    return 0;
}
