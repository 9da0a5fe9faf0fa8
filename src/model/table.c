#include "model/table.h"

#include "base/fd.h"

enum { TABLE_FILE_MAX = 1024 * 1024 };

int model_table_load(const char *path, struct model_table *out, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(TABLE_FILE_MAX);
    int rc = fd_read_file(path, &text, err);
    if (rc)
        return err_wrap(err, "table of models");
    rc = model_table_parse(buf_view(&text), out, err);
    return rc ? err_wrap(err, "table of models %s", path) : 0;
}

void model_table_fini(struct model_table *t)
{
    arena_fini(&t->arena);
    *t = (struct model_table){0};
}

const struct model_info *model_table_find(const struct model_table *t, struct str id)
{
    for (size_t i = 0; i < t->ninfos; i++) {
        if (str_eq(t->infos[i].id, id))
            return &t->infos[i];
    }
    for (size_t i = 0; i < t->naliases; i++) {
        if (str_eq(t->aliases[i].id, id))
            return &t->infos[t->aliases[i].index];
    }
    return NULL;
}
