/* The tree of a snapshot in memory. */
#include "sandbox/snapshot_impl.h"

#include <sodium.h>
#include <stdlib.h>

enum { TREE_ARENA = 1 << 30 };

const char *const snapshot_roots[SNAPSHOT_ROOTS] = {"base.git", "home", "outputs", "workspace"};

void snap_tree_init(struct snap_tree *t)
{
    *t = (struct snap_tree){0};
    arena_init(&t->arena, TREE_ARENA);
}

void snap_tree_fini(struct snap_tree *t)
{
    map_fini(&t->by_hash);
    mem_free(t->entries.v);
    mem_free(t->contents);
    mem_free(t->packs);
    arena_fini(&t->arena);
}

/* ---- entries ---- */

static unsigned rank(char c)
{
    return c == '/' ? 0 : (unsigned char)c;
}

int snap_path_cmp(struct str a, struct str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    for (size_t i = 0; i < n; i++)
        if (a.ptr[i] != b.ptr[i])
            return rank(a.ptr[i]) < rank(b.ptr[i]) ? -1 : 1;
    return a.len < b.len ? -1 : a.len > b.len;
}

struct snap_entry *snap_entries_add(struct snap_entries *v)
{
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 256;
        v->v = mem_realloc(v->v, v->cap * sizeof *v->v);
    }
    struct snap_entry *e = &v->v[v->n++];
    *e = (struct snap_entry){0};
    return e;
}

const struct snap_entry *snap_find(const struct snap_entries *v, struct str path)
{
    size_t lo = 0, hi = v->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = snap_path_cmp(v->v[mid].path, path);
        if (c == 0)
            return &v->v[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool is_root(struct str path)
{
    for (size_t i = 0; i < SNAPSHOT_ROOTS; i++)
        if (str_eqz(path, snapshot_roots[i]))
            return true;
    return false;
}

/* With the directories above the entry before at hand, the parent is one of them. */
bool snap_entries_fit(const struct snap_entries *v)
{
    struct str above[SNAP_DEPTH];
    size_t depth = 0;
    for (size_t i = 0; i < v->n; i++) {
        const struct snap_entry *e = &v->v[i];
        if (i && snap_path_cmp(v->v[i - 1].path, e->path) >= 0)
            return false;
        size_t slash = e->path.len;
        while (slash > 0 && e->path.ptr[slash - 1] != '/')
            slash--;
        if (slash == 0) {
            if (e->kind != SNAP_DIR || !is_root(e->path))
                return false;
            depth = 0;
        } else {
            struct str parent = str_take(e->path, slash - 1);
            while (depth && !str_eq(above[depth - 1], parent))
                depth--;
            if (depth == 0)
                return false;
        }
        if (e->kind == SNAP_DIR && depth == SNAP_DEPTH)
            return false;
        if (e->kind == SNAP_DIR)
            above[depth++] = e->path;
    }
    return true;
}

bool snap_same(const struct snap_entry *a, const struct snap_entry *b)
{
    if (a->kind != b->kind || a->mode != b->mode || a->mtime_ns != b->mtime_ns ||
        a->size != b->size || a->nruns != b->nruns || !str_eq(a->target, b->target))
        return false;
    for (size_t i = 0; i < a->nruns; i++)
        if (a->runs[i].content != b->runs[i].content || a->runs[i].count != b->runs[i].count)
            return false;
    return true;
}

/* ---- contents and packs ---- */

static struct str key_of(const unsigned char hash[SNAP_HASH])
{
    return str_n((const char *)hash, SNAP_HASH);
}

struct snap_content *snap_content_get(const struct snap_tree *t,
                                      const unsigned char hash[SNAP_HASH])
{
    return map_get(&t->by_hash, key_of(hash));
}

struct snap_content *snap_content_add(struct snap_tree *t, const unsigned char hash[SNAP_HASH])
{
    struct snap_content *c =
        t->ncontents < UINT32_MAX ? ARENA_NEW(&t->arena, struct snap_content) : NULL;
    if (!c)
        return NULL;
    if (t->ncontents == t->contents_cap) {
        t->contents_cap = t->contents_cap ? t->contents_cap * 2 : 256;
        t->contents = mem_realloc(t->contents, t->contents_cap * sizeof(struct snap_content *));
    }
    memcpy(c->hash, hash, SNAP_HASH);
    c->number = (uint32_t)t->ncontents;
    t->contents[t->ncontents++] = c;
    map_put(&t->by_hash, key_of(c->hash), c);
    return c;
}

uint32_t snap_pack_add(struct snap_tree *t, const unsigned char name[SNAP_HASH])
{
    if (t->npacks == t->packs_cap) {
        t->packs_cap = t->packs_cap ? t->packs_cap * 2 : 16;
        t->packs = mem_realloc(t->packs, t->packs_cap * sizeof *t->packs);
    }
    memcpy(t->packs[t->npacks].v, name, SNAP_HASH);
    return (uint32_t)t->npacks++;
}

void snap_pack_blob(const struct snap_pack_name *p, struct blob_id *out)
{
    sodium_bin2hex(out->z, sizeof out->z, p->v, sizeof p->v);
}
