/* tx: what the typed operations share: the transaction handle, growing row lists, page windows.
 *
 * Internal to store/; used on store threads only, inside a job.
 */
#ifndef OSTLER_STORE_TX_H
#define OSTLER_STORE_TX_H

#include "store/db.h"
#include "store/store.h"

struct store_tx {
    struct db *db;
};

/* Rows of one size, grown on the heap and moved into the arena at the end. */
struct row_list {
    size_t size; /* of one row */
    char *data;
    size_t n, cap;
};

void *row_list_push(struct row_list *l); /* zeroed; valid until the next push */
void row_list_fini(struct row_list *l);
/* Copies the rows to the arena. LIMIT when the arena is exhausted, now or by an earlier copy. */
int row_list_take(struct row_list *l, struct arena *a, void **out, size_t *n,
                  struct err *err) MUST_USE;
#define AUTO_ROW_LIST CLEANUP(row_list_fini)

/* A query whose rows are wanted as an array. */
struct row_query {
    const char *sql;
    const struct db_value *v;
    size_t nv;
    size_t size;   /* of one row */
    int64_t limit; /* 0: all. Otherwise the query asks for one more, to know whether there is one */
    bool turn;     /* the rows arrive nearest first, as they do of a page read backwards */
    int (*read)(const struct db_rows *r, struct arena *a, void *row, struct err *err);
};
/* The rows in the arena, in `*out`, which points to a pointer to them. NULL is fine for `more`. */
int row_query_list(struct store_tx *tx, const struct row_query *q, struct arena *a, void *out,
                   size_t *n, bool *more, struct err *err) MUST_USE;

/* LIMIT when the arena ran out while strings were copied into it. */
int tx_arena_ok(const struct arena *a, struct err *err) MUST_USE;

/* files.c: the files that a session made, before the session itself. */
int tx_file_delete_scope(struct store_tx *tx, int64_t session_key, struct err *err) MUST_USE;
/* skills.c: the contents it was given, likewise. */
int tx_session_blobs_release(struct store_tx *tx, int64_t session_key, struct err *err) MUST_USE;

/* ---- keyset paging on (created_us, id) ---- */

enum { PAGE_ROWS_MAX = 100000 }; /* a page asks for no more, whatever its limit says */

/* The half-open window [lo, hi) of positions that a query reads, and the direction. */
struct window {
    int64_t lo_us, hi_us;
    char lo_id[ID_MAX + 1], hi_id[ID_MAX + 1];
    bool desc;
    int64_t limit;
};

struct range { /* on created_us; 0: none */
    int64_t gt_us, gte_us, lt_us, lte_us;
};

/* INVALID at "page" for a position that is malformed or outside the range. */
int window_init(struct window *w, const struct page *page, const struct range *range,
                struct err *err) MUST_USE;
/* One row of the range: the nearest one beyond the given row, going down (`desc`) or up. */
void window_beside(struct window *w, const struct range *range, bool desc, int64_t created_us,
                   const struct id *id);

/* For SQL: AND WINDOW_SQL("s.", "2", "3", "4", "5") with WINDOW_ARGS(w) in that order. */
#define WINDOW_SQL(p, lo_us, lo_id, hi_us, hi_id)                                                  \
    "(" p "created_us, " p "id) >= (?" lo_us ", ?" lo_id ") AND (" p "created_us, " p              \
    "id) < (?" hi_us ", ?" hi_id ")"
#define WINDOW_ASC(p) " ORDER BY " p "created_us, " p "id"
#define WINDOW_DESC(p) " ORDER BY " p "created_us DESC, " p "id DESC"
#define WINDOW_ARGS(w)                                                                             \
    db_i64((w)->lo_us), db_text(str_z((w)->lo_id)), db_i64((w)->hi_us), db_text(str_z((w)->hi_id))

/* A list whose rows have one owner: its key or id is ?1, the window ?2 to ?5, how many are wanted
 * ?6. */
struct window_query {
    const char *asc, *desc; /* NULL: no list of these goes that way */
    struct db_value owner;
    size_t size; /* of one row */
    int (*read)(const struct db_rows *r, struct arena *a, void *row, struct err *err);
};
/* Like row_query_list(). */
int window_query_list(struct store_tx *tx, const struct window_query *q, const struct page *page,
                      struct arena *a, void *out, size_t *n, bool *more, struct err *err) MUST_USE;
#define WINDOW_PAGE_ASC(p) WINDOW_SQL(p, "2", "3", "4", "5") WINDOW_ASC(p) " LIMIT ?6"
#define WINDOW_PAGE_DESC(p) WINDOW_SQL(p, "2", "3", "4", "5") WINDOW_DESC(p) " LIMIT ?6"

#endif
