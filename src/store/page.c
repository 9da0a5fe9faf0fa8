#include "store/tx.h"

#include <stdio.h>

enum { ROWS_FIRST = 16 };

void *row_list_push(struct row_list *l)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : ROWS_FIRST;
        l->data = mem_realloc(l->data, l->cap * l->size);
    }
    return memset(l->data + l->n++ * l->size, 0, l->size);
}

void row_list_fini(struct row_list *l)
{
    mem_free(l->data);
    *l = (struct row_list){.size = l->size};
}

static void reverse(struct row_list *l)
{
    AUTO_FREE char *spare = mem_alloc(l->size);
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        char *a = l->data + i * l->size, *b = l->data + --j * l->size;
        memcpy(spare, a, l->size);
        memcpy(a, b, l->size);
        memcpy(b, spare, l->size);
    }
}

int tx_arena_ok(const struct arena *a, struct err *err)
{
    if (!a->failed)
        return 0;
    return err_set(err, ERR_LIMIT, "the result is larger than %zu bytes; ask for fewer rows",
                   a->max_bytes);
}

int row_list_take(struct row_list *l, struct arena *a, void **out, size_t *n, struct err *err)
{
    void *copy = arena_alloc(a, l->n * l->size);
    int rc = tx_arena_ok(a, err);
    if (rc)
        return rc;
    if (l->n)
        memcpy(copy, l->data, l->n * l->size);
    *out = copy;
    *n = l->n;
    return 0;
}

int row_query_list(struct store_tx *tx, const struct row_query *q, struct arena *a, void *out,
                   size_t *n, bool *more, struct err *err)
{
    AUTO_ROW_LIST struct row_list list = {.size = q->size};
    AUTO_ROWS struct db_rows rows = {0};
    size_t limit = q->limit > 0 ? (size_t)q->limit : SIZE_MAX;
    bool row = false;
    int rc = db_first(tx->db, q->sql, q->v, q->nv, &rows, &row, err);
    while (rc == 0 && row && list.n < limit) {
        rc = q->read(&rows, a, row_list_push(&list), err);
        if (rc == 0)
            rc = db_next(&rows, &row, err);
    }
    if (rc)
        return rc;
    if (q->turn)
        reverse(&list);
    rc = row_list_take(&list, a, out, n, err);
    if (rc == 0 && more)
        *more = row;
    return rc;
}

/* ---- positions ---- */

struct str page_position(struct arena *a, int64_t created_us, const struct id *id)
{
    return arena_printf(a, "%lld:%s", (long long)created_us, id->z);
}

struct position {
    int64_t us;
    struct id id;
};

static bool parse_position(struct str s, struct position *out)
{
    struct str us = str_split(&s, ':');
    if (!str_some(s) || s.len == 0 || s.len >= ID_MAX || !str_i64(us, &out->us) || out->us < 0)
        return false;
    out->id = id_from(s);
    return true;
}

/* '!' sorts before every character of an id: what follows `id` directly in a binary order. */
static void successor(char out[ID_MAX + 1], const struct id *id)
{
    snprintf(out, ID_MAX + 1, "%s!", id->z);
}

static int position_cmp(int64_t a_us, const char *a_id, int64_t b_us, const char *b_id)
{
    if (a_us != b_us)
        return a_us < b_us ? -1 : 1;
    return strcmp(a_id, b_id);
}

static void from_range(struct window *w, const struct range *r)
{
    *w = (struct window){.lo_us = INT64_MIN, .hi_us = INT64_MAX};
    if (r->gte_us)
        w->lo_us = r->gte_us;
    if (r->gt_us && r->gt_us < INT64_MAX && r->gt_us + 1 > w->lo_us)
        w->lo_us = r->gt_us + 1;
    if (r->lte_us && r->lte_us < INT64_MAX)
        w->hi_us = r->lte_us + 1;
    if (r->lt_us && r->lt_us < w->hi_us)
        w->hi_us = r->lt_us;
}

static void keep_below(struct window *w, int64_t us, const struct id *id)
{
    if (position_cmp(us, id->z, w->hi_us, w->hi_id) >= 0)
        return;
    w->hi_us = us;
    str_copyz(w->hi_id, sizeof w->hi_id, id_str(id));
}

static void keep_above(struct window *w, int64_t us, const struct id *id)
{
    char next[ID_MAX + 1];
    successor(next, id);
    if (position_cmp(us, next, w->lo_us, w->lo_id) <= 0)
        return;
    w->lo_us = us;
    str_copyz(w->lo_id, sizeof w->lo_id, str_z(next));
}

int window_init(struct window *w, const struct page *page, const struct range *range,
                struct err *err)
{
    if (page->limit < 1)
        return err_at(err, ERR_INVALID, "limit", "limit must be at least 1");
    from_range(w, range);
    w->desc = page->desc != page->backward;
    w->limit = page->limit < PAGE_ROWS_MAX ? page->limit : PAGE_ROWS_MAX;
    if (!str_some(page->after))
        return 0;
    struct position p;
    if (!parse_position(page->after, &p))
        return err_at(err, ERR_INVALID, "page", "not a page position of this list");
    if (position_cmp(p.us, p.id.z, w->lo_us, w->lo_id) < 0 ||
        position_cmp(p.us, p.id.z, w->hi_us, w->hi_id) >= 0)
        return err_at(err, ERR_INVALID, "page",
                      "the page position lies outside the created_at range; start from the first "
                      "page");
    if (w->desc)
        keep_below(w, p.us, &p.id);
    else
        keep_above(w, p.us, &p.id);
    return 0;
}

void window_beside(struct window *w, const struct range *range, bool desc, int64_t created_us,
                   const struct id *id)
{
    from_range(w, range);
    w->desc = desc;
    w->limit = 1;
    if (desc)
        keep_below(w, created_us, id);
    else
        keep_above(w, created_us, id);
}

int window_query_list(struct store_tx *tx, const struct window_query *q, const struct page *page,
                      struct arena *a, void *out, size_t *n, bool *more, struct err *err)
{
    struct window w;
    int rc = window_init(&w, page, &(struct range){0}, err);
    if (rc)
        return rc;
    const struct db_value v[] = {q->owner, WINDOW_ARGS(&w), db_i64(w.limit + 1)};
    const struct row_query rows = {.sql = w.desc ? q->desc : q->asc,
                                   .v = v,
                                   .nv = COUNT_OF(v),
                                   .size = q->size,
                                   .limit = w.limit,
                                   .turn = page->backward,
                                   .read = q->read};
    if (!rows.sql)
        return err_at(err, ERR_INVALID, "page", "this list goes one way only");
    return row_query_list(tx, &rows, a, out, n, more, err);
}
