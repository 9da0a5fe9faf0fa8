/* One file or one directory of a snapshot, as paths.c gives those of a directory that is there. */
#include "sandbox/impl.h"
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"
#include "json/writer.h"

#include <stdio.h>

enum { READ_LINKS = 40, READ_LIST = 256 << 20 };

struct looking {
    const struct snap_tree *tree;
    struct str root, asked;
    struct buf at;   /* "workspace/a": where it has come to */
    struct buf rest; /* names to go */
    struct err *err;
};

static int not_there(const struct looking *l)
{
    return err_at(l->err, ERR_NOT_FOUND, "path", "path: there is no '" STR_FMT "' in the workspace",
                  STR_ARG(l->asked));
}

static int leads_out(const struct looking *l)
{
    return err_at(l->err, ERR_INVALID, "path", "path: '" STR_FMT "' leads out of the workspace",
                  STR_ARG(l->asked));
}

/* What a link says comes in front of the names to go. */
static int follow(struct looking *l, const struct snap_entry *link, struct str rest)
{
    AUTO_BUF struct buf next = BUF_INIT(1 << 20);
    if (link->target.ptr[0] == '/')
        return leads_out(l);
    buf_str(&next, link->target);
    buf_ch(&next, '/');
    buf_str(&next, rest);
    buf_clear(&l->rest);
    buf_str(&l->rest, buf_view(&next));
    return buf_ok(&l->rest) && buf_ok(&next) ? 0 : not_there(l);
}

static int step_up(struct looking *l)
{
    if (l->at.len == l->root.len)
        return leads_out(l);
    while (l->at.data[l->at.len - 1] != '/')
        l->at.len--;
    l->at.len--;
    return 0;
}

static const struct snap_entry *entry_at(const struct looking *l)
{
    return snap_find(&l->tree->entries, buf_view(&l->at));
}

/* The entry behind the path, links followed. */
static int look(struct looking *l, const struct snap_entry **out)
{
    int links = 0;
    const struct snap_entry *e = entry_at(l);
    while (e && l->rest.len) {
        struct str rest = buf_view(&l->rest), name = str_split(&rest, '/');
        size_t used = l->rest.len - (str_some(rest) ? rest.len : 0), had = l->at.len;
        int rc = 0;
        if (e->kind != SNAP_DIR)
            return not_there(l);
        if (name.len == 0 || str_eqz(name, ".")) {
            buf_consume(&l->rest, used);
            continue;
        }
        if (str_eqz(name, "..")) {
            rc = step_up(l);
        } else {
            buf_ch(&l->at, '/');
            buf_str(&l->at, name);
        }
        e = rc ? NULL : entry_at(l);
        if (e && e->kind == SNAP_SYMLINK) {
            if (++links > READ_LINKS)
                return leads_out(l);
            l->at.len = had;
            rc = follow(l, e, rest);
            e = entry_at(l);
        } else {
            buf_consume(&l->rest, used);
        }
        if (rc)
            return rc;
    }
    *out = e;
    return e && buf_ok(&l->at) ? 0 : not_there(l);
}

static int find(const struct snap_tree *t, const char *root, struct str path,
                const struct snap_entry **out, struct err *err)
{
    struct looking l = {.tree = t,
                        .root = str_z(root),
                        .asked = path,
                        .at = BUF_INIT(1 << 20),
                        .rest = BUF_INIT(1 << 20),
                        .err = err};
    buf_z(&l.at, root);
    buf_str(&l.rest, path);
    int rc = look(&l, out);
    buf_fini(&l.at);
    buf_fini(&l.rest);
    return rc;
}

/* ---- a directory ---- */

static void write_entry(struct jw *w, struct str parent, struct str name,
                        const struct snap_entry *e)
{
    AUTO_BUF struct buf path = BUF_INIT(1 << 20);
    char mode[16];
    if (!str_eqz(parent, ".")) {
        buf_str(&path, parent);
        buf_ch(&path, '/');
    }
    buf_str(&path, name);
    snprintf(mode, sizeof mode, "%04o", e->mode);
    jw_obj(w);
    jw_kstr(w, "path", buf_view(&path));
    jw_kz(w, "type",
          e->kind == SNAP_DIR       ? "directory"
          : e->kind == SNAP_SYMLINK ? "symlink"
                                    : "file");
    jw_ki64(w, "size_bytes", e->size);
    jw_kz(w, "mode", mode);
    jw_obj_end(w);
}

static void write_list(const struct snap_tree *t, const struct snap_entry *dir, struct str parent,
                       struct jw *w)
{
    const struct snap_entry *end = t->entries.v + t->entries.n;
    for (const struct snap_entry *e = dir ? dir + 1 : end; e < end; e++) {
        struct str name = str_skip(e->path, dir->path.len + 1);
        if (e->path.len <= dir->path.len || !str_starts(e->path, dir->path) ||
            e->path.ptr[dir->path.len] != '/')
            break;
        if (str_find_ch(name, '/') < 0)
            write_entry(w, parent, name, e);
    }
}

int snapshot_list(const struct blobs *b, struct str manifest, const char *root, struct str path,
                  int out, struct err *err)
{
    struct snap_tree t;
    const struct snap_entry *dir = NULL;
    char rel[PATH_MAX];
    AUTO_BUF struct buf json = BUF_INIT(READ_LIST);
    struct jw w = jw_to(&json);
    int rc = path_relative(path, rel, err);
    if (rc)
        return rc;
    snap_tree_init(&t);
    rc = snap_manifest_load(b, manifest, &t, err);
    bool top = str_eqz(str_z(rel), ".");
    if (rc == 0 && !(top && !snap_find(&t.entries, str_z(root)))) /* not there yet: empty */
        rc = find(&t, root, str_z(rel), &dir, err);
    if (rc == 0 && dir && dir->kind != SNAP_DIR)
        rc = err_at(err, ERR_INVALID, "path", "path: '%s' is not a directory", rel);
    if (rc == 0) {
        jw_obj(&w);
        jw_key(&w, "data");
        jw_arr(&w);
        write_list(&t, dir, str_z(rel), &w);
        jw_arr_end(&w);
        jw_obj_end(&w);
        rc = buf_ok(&json)
                 ? fd_write_all(out, buf_view(&json), err)
                 : err_set(err, ERR_TOO_LARGE, "the directory has too many entries to list");
    }
    snap_tree_fini(&t);
    return rc;
}

/* ---- a file ---- */

static int write_out(const struct blobs *b, const struct snap_tree *t, const struct snap_entry *e,
                     int out, struct err *err)
{
    struct snap_unpacker u;
    char *data = mem_alloc(SNAP_WHOLE);
    snap_unpacker_init(&u, b, t);
    int rc = snap_write_file(&u, e, out, data, err);
    snap_unpacker_fini(&u);
    mem_free(data);
    return rc;
}

int snapshot_read(const struct blobs *b, struct str manifest, const char *root, struct str path,
                  int out, struct err *err)
{
    struct snap_tree t;
    const struct snap_entry *e = NULL;
    char rel[PATH_MAX];
    int rc = path_relative(path, rel, err);
    if (rc)
        return rc;
    snap_tree_init(&t);
    rc = snap_manifest_load(b, manifest, &t, err);
    if (rc == 0)
        rc = find(&t, root, str_z(rel), &e, err);
    if (rc == 0 && !snap_is_file(e))
        rc = err_at(err, ERR_INVALID, "path", "path: '%s' is not a regular file", rel);
    if (rc == 0)
        rc = write_out(b, &t, e, out, err);
    snap_tree_fini(&t);
    return rc;
}
