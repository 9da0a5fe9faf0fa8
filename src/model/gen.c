/* gen: the build-time generator of what the model layer embeds: the table of models as C data, and
 * the built-in scripts as bytes. Not part of ostler.
 *
 *     model_gen table models.yaml OUT.c
 *     model_gen scripts OUT.c NAME.lua...
 */
#include "model/table.h"

#include "base/fd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { GEN_MAX = 4 * 1024 * 1024 };

static void text(struct buf *b, struct str s)
{
    buf_ch(b, '"');
    for (size_t i = 0; i < s.len; i++)
        buf_printf(b, "\\%03o", (unsigned char)s.ptr[i]);
    buf_ch(b, '"');
}

static void entry(struct buf *b, const struct model_info *m)
{
    buf_z(b, "    {STR(");
    text(b, m->id);
    buf_printf(b, "), %" PRId64 ", %" PRId64 ", \"%s\", \"%s\", %s, %s, %s,\n", m->context_tokens,
               m->max_output_tokens, m->default_effort, m->thinking, m->priced ? "true" : "false",
               m->unverified ? "true" : "false", m->system_messages ? "true" : "false");
    const int64_t prices[] = {m->input,
                              m->output,
                              m->cache_write_5m,
                              m->cache_write_1h,
                              m->cache_read,
                              m->long_above_tokens,
                              m->long_input,
                              m->long_output,
                              m->long_cache_write_5m,
                              m->long_cache_write_1h,
                              m->long_cache_read};
    buf_z(b, "    ");
    for (size_t i = 0; i < COUNT_OF(prices); i++)
        buf_printf(b, " %" PRId64 ",", prices[i]);
    buf_z(b, "},\n");
}

static int table(const char *in, struct buf *out, struct err *err)
{
    struct model_table t;
    int rc = model_table_load(in, &t, err);
    if (rc)
        return rc;
    buf_z(out, "/* Generated from models.yaml. */\n#include \"model/table.h\"\n\n"
               "static const struct model_info infos[] = {\n");
    for (size_t i = 0; i < t.ninfos; i++)
        entry(out, &t.infos[i]);
    buf_z(out, "};\n\nstatic const struct model_alias aliases[] = {\n");
    for (size_t i = 0; i < t.naliases; i++) {
        buf_z(out, "    {STR(");
        text(out, t.aliases[i].id);
        buf_printf(out, "), %zu},\n", t.aliases[i].index);
    }
    if (t.naliases == 0)
        buf_z(out, "    {{0}, 0},\n");
    buf_printf(out,
               "};\n\nconst struct model_table model_table_builtin = {\n"
               "    infos, COUNT_OF(infos), aliases, %zu,\n    ",
               t.naliases);
    text(out, str_z(t.default_id));
    buf_z(out, ", {0}};\n");
    model_table_fini(&t);
    return 0;
}

static int script(const char *path, struct buf *out, struct err *err)
{
    AUTO_BUF struct buf in = BUF_INIT(GEN_MAX);
    int rc = fd_read_file(path, &in, err);
    if (rc)
        return rc;
    const char *slash = strrchr(path, '/');
    struct str name = str_z(slash ? slash + 1 : path);
    if (!str_ends(name, STR(".lua")))
        return err_set(err, ERR_INVALID, "%s: not a .lua file", path);
    buf_z(out, "    {STR(");
    text(out, str_take(name, name.len - 4));
    buf_z(out, "), STR(");
    /* In pieces: no C compiler likes a line of a hundred thousand characters. */
    for (size_t at = 0; at < in.len; at += 24) {
        buf_z(out, "\n        ");
        text(out, str_take(str_skip(buf_view(&in), at), 24));
    }
    buf_z(out, ")},\n");
    return 0;
}

static int scripts(int n, char **paths, struct buf *out, struct err *err)
{
    buf_z(out, "/* Generated from scripts/. */\n#include \"model/script.h\"\n\n"
               "const struct script_builtin script_builtins[] = {\n");
    for (int i = 0; i < n; i++) {
        int rc = script(paths[i], out, err);
        if (rc)
            return rc;
    }
    buf_printf(out, "};\nconst size_t script_nbuiltins = %d;\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    AUTO_BUF struct buf out = BUF_INIT(GEN_MAX);
    int rc = ERR_INVALID;
    const char *to = NULL;
    if (argc == 4 && strcmp(argv[1], "table") == 0) {
        to = argv[3];
        rc = table(argv[2], &out, &err);
    } else if (argc > 3 && strcmp(argv[1], "scripts") == 0) {
        to = argv[2];
        rc = scripts(argc - 3, argv + 3, &out, &err);
    } else {
        err_set(&err, ERR_INVALID, "usage: model_gen table IN OUT | model_gen scripts OUT LUA...");
    }
    if (rc == 0 && !buf_ok(&out))
        rc = err_set(&err, ERR_TOO_LARGE, "the generated file would pass %d bytes", GEN_MAX);
    if (rc == 0)
        rc = fd_write_file_atomic(to, buf_view(&out), 0644, &err);
    if (rc)
        fprintf(stderr, "model_gen: %s\n", err.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
