/* Outputs of a session as files:
 *
 *   scan, store contents (worker) --> list (store) --> note what was seen (worker) --> done
 *
 * What was seen stands in outputs.json beside the directory, by path, size, times and inode: a
 * session that rests often costs a walk each time. If a server dies between listing and noting, the
 * same contents come up again and are recognised by name and content. */
#include "sandbox/harvest.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mime.h"
#include "http/http.h"
#include "json/json.h"
#include "json/writer.h"
#include "sandbox/provision.h"
#include "sandbox/restore.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HARVEST_ARENA = 64 << 20, SEEN_MAX = 16 << 20, DEPTH = 32 };

struct output {
    struct str path; /* below outputs, percent-encoded: what it is known by */
    struct str name; /* of the file */
    struct stat st;
    struct id file_id; /* empty: not listed yet */
    bool changed;
    struct blob_upload *upload; /* of a changed one */
    struct blob_id blob;
};

struct harvest {
    struct list node;
    struct sandboxes *s;
    struct id id;
    bool again, sweep, listed;
    struct session_paths paths;
    struct arena arena;
    int lock;
    struct map seen, seen_names; /* by path and by name: what was seen, of the arena */
    struct map names;            /* of `outputs` */
    struct output *outputs;
    size_t n, cap, skipped;
    uint64_t bytes;
    struct store_job job;
    struct loop_work work;
    struct err err;
};

/* ---- what was seen before ---- */

static void seen_path(const struct harvest *h, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", h->paths.dir, name);
}

static void read_seen(struct harvest *h)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = BUF_INIT(SEEN_MAX);
    const struct json *doc;
    seen_path(h, "outputs.json", path);
    if (fd_read_file(path, &text, NULL) != 0)
        return;
    struct str kept = arena_str(&h->arena, buf_view(&text));
    if (str_some(kept) && json_parse(&h->arena, kept, 0, &doc, NULL) == 0 &&
        json_is(json_get(doc, "files"), JSON_ARRAY))
        json_for_each (v, json_get(doc, "files")) {
            map_put(&h->seen, json_get_str(v, "path"), (void *)(uintptr_t)v);
            map_put(&h->seen_names, json_get_str(v, "name"), (void *)(uintptr_t)v);
        }
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool number_is(const struct json *v, const char *key, int64_t want)
{
    int64_t n;
    return json_i64(json_get(v, key), &n) && n == want;
}

static bool same_as_seen(const struct json *v, const struct stat *st)
{
    return number_is(v, "size", st->st_size) && number_is(v, "mtime", ns_of(st->st_mtim)) &&
           number_is(v, "ctime", ns_of(st->st_ctim)) && number_is(v, "inode", (int64_t)st->st_ino);
}

/* ---- names: of one file, whatever the agent called it ---- */

/* What another path was listed as is its own, also when the walk has not come to it yet: a new
 * file of that name would take its place. */
static bool name_is_known(const struct harvest *h, struct str path, struct str name)
{
    const struct json *v = map_get(&h->seen_names, name);
    return v && !str_eq(json_get_str(v, "path"), path);
}

/* The path in one line: folders and what no file may be called become '_'. */
static struct str make_name(struct harvest *h, struct str path, struct str encoded)
{
    AUTO_BUF struct buf b = BUF_INIT(PATH_MAX * 4);
    for (size_t i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char)path.ptr[i];
        buf_ch(&b, c < 0x20 || c == 0x7f || strchr("<>:\"|?*\\/", c) ? '_' : (char)c);
    }
    struct str all = buf_view(&b), extension = STR("");
    if (!str_utf8(all)) {
        for (size_t i = 0; i < b.len; i++)
            b.data[i] = (unsigned char)b.data[i] < 0x80 ? b.data[i] : '_';
        all = buf_view(&b);
    }
    for (size_t i = all.len; i-- > 1 && all.len - i <= 16;)
        if (all.ptr[i] == '.') {
            extension = str_skip(all, i);
            break;
        }
    struct str stem = str_utf8_take(str_take(all, all.len - extension.len), 200);
    struct str name = arena_printf(&h->arena, STR_FMT STR_FMT, STR_ARG(stem), STR_ARG(extension));
    for (int k = 2; (map_get(&h->names, name) || name_is_known(h, encoded, name)) &&
                    k <= 2 * LIMIT_OUTPUTS + 1;
         k++)
        name = arena_printf(&h->arena, STR_FMT "_%d" STR_FMT, STR_ARG(stem), k, STR_ARG(extension));
    return name;
}

/* ---- the walk ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_ino == b->st_ino &&
           ns_of(a->st_mtim) == ns_of(b->st_mtim) && ns_of(a->st_ctim) == ns_of(b->st_ctim);
}

/* A file that somebody still writes is not complete: it waits for the next time. */
static bool copy_content(struct harvest *h, int fd, struct output *o, struct err *err)
{
    char chunk[65536];
    struct stat after;
    struct blob_upload *u;
    if (blob_upload_open(&h->s->host.blobs, &u, err) != 0)
        return false;
    int rc = 0;
    for (ssize_t n = 1; rc == 0 && n > 0;) {
        n = read(fd, chunk, sizeof chunk);
        if (n > 0 && blob_upload_size(u) + n <= o->st.st_size)
            rc = blob_upload_add(u, str_n(chunk, (size_t)n), err);
        else if (n != 0)
            rc = err_set(err, ERR_UNAVAILABLE, "the file changed while it was read");
    }
    if (rc == 0 && (fstat(fd, &after) < 0 || !same_file(&after, &o->st) ||
                    blob_upload_size(u) != o->st.st_size))
        rc = err_set(err, ERR_UNAVAILABLE, "the file changed while it was read");
    if (rc == 0)
        rc = blob_upload_finish(u, &o->blob, err);
    if (rc) {
        blob_upload_close(u);
        return false;
    }
    o->upload = u;
    return true;
}

static void take_file(struct harvest *h, int at, const char *name, const char *path, bool look)
{
    uint64_t most = (uint64_t)h->s->host.limits.disk_mb << 20;
    AUTO_BUF struct buf encoded = BUF_INIT(PATH_MAX * 4);
    AUTO_FD int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct output o = {.changed = true};
    if (fd < 0 || fstat(fd, &o.st) < 0 || !S_ISREG(o.st.st_mode))
        return;
    http_encode(&encoded, str_z(path));
    o.path = arena_str(&h->arena, buf_view(&encoded));
    const struct json *seen = map_get(&h->seen, o.path);
    if (seen) {
        o.name = json_get_str(seen, "name");
        o.file_id = id_from(json_get_str(seen, "file"));
        o.changed = !same_as_seen(seen, &o.st);
    }
    h->bytes += (uint64_t)o.st.st_size;
    if (o.st.st_size > LIMIT_FILE || h->bytes > most || h->n >= LIMIT_OUTPUTS) {
        h->skipped++;
        return;
    }
    if (!o.name.len || map_get(&h->names, o.name))
        o.name = make_name(h, str_z(path), o.path);
    if (o.changed && !look && !copy_content(h, fd, &o, &h->err))
        return;
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 64;
        h->outputs = mem_realloc(h->outputs, h->cap * sizeof *h->outputs);
    }
    h->outputs[h->n++] = o;
    if (o.name.len)
        map_put(&h->names, o.name, h);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of names, so that the same tree gives the same names for files. */
static char **list_names(int fd, size_t *n)
{
    char **names = NULL;
    size_t cap = 0;
    DIR *d = fdopendir(fd);
    *n = 0;
    if (!d) {
        fd_close(fd);
        return NULL;
    }
    for (struct dirent *e; (e = readdir(d)) && *n < (size_t)LIMIT_OUTPUTS * 10;) {
        if (str_eqz(str_z(e->d_name), ".") || str_eqz(str_z(e->d_name), ".."))
            continue;
        if (*n == cap) {
            cap = cap ? cap * 2 : 32;
            names = mem_realloc(names, cap * sizeof *names);
        }
        names[(*n)++] = mem_dupz(e->d_name, strlen(e->d_name));
    }
    closedir(d);
    if (*n)
        qsort(names, *n, sizeof *names, by_name);
    return names;
}

static void walk(struct harvest *h, int at, const char *below, unsigned depth, bool look)
{
    size_t n;
    int copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char **names = copy < 0 ? NULL : list_names(copy, &n);
    for (size_t i = 0; names && i < n; i++) {
        char path[PATH_MAX];
        AUTO_FD int sub = -1;
        if (snprintf(path, sizeof path, "%s%s%s", below, below[0] ? "/" : "", names[i]) <
            (int)sizeof path) {
            sub = openat(at, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub < 0)
                take_file(h, at, names[i], path, look);
            else if (depth < DEPTH)
                walk(h, sub, path, depth + 1, look);
        }
        mem_free(names[i]);
    }
    mem_free(names);
}

static bool any_changed(const struct harvest *h)
{
    for (size_t i = 0; i < h->n; i++)
        if (h->outputs[i].changed)
            return true;
    return false;
}

static void drop_outputs(struct harvest *h)
{
    for (size_t i = 0; i < h->n; i++)
        blob_upload_close(h->outputs[i].upload);
    mem_free(h->outputs);
    h->outputs = NULL;
    struct map *const maps[] = {&h->seen, &h->seen_names, &h->names};
    for (size_t i = 0; i < COUNT_OF(maps); i++)
        map_fini(maps[i]);
    h->n = h->cap = h->skipped = 0;
    h->bytes = 0;
}

/* Held from the look to the note: other processes keep out. */
static bool take_lock(struct harvest *h)
{
    char path[PATH_MAX];
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    seen_path(h, "outputs.lock", path);
    h->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return h->lock >= 0 && fcntl(h->lock, F_OFD_SETLK, &fl) == 0;
}

/* `look`: only whether there is anything to do. */
static void scan(struct harvest *h, bool look)
{
    AUTO_FD int fd = open(h->paths.outputs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    read_seen(h);
    walk(h, fd, "", 0, look);
}

static void scan_work(struct loop_work *w)
{
    struct harvest *h = CONTAINER_OF(w, struct harvest, work);
    if (!h->sweep) {
        provision_forget_note(&h->paths);
        restore_forget_note(&h->paths);
    }
    if (take_lock(h))
        scan(h, false);
}

/* ---- listing, in one transaction ---- */

static int replace(struct store_tx *tx, struct harvest *h, struct str ws, struct output *o,
                   const struct file_row *rows, size_t n, struct err *err)
{
    int64_t now = clock_unix_us();
    struct file_row row = {.id = id_new("file"),
                           .scope_id = h->id,
                           .filename = o->name,
                           .mime_type = mime_of_name(o->name),
                           .size_bytes = o->st.st_size,
                           .downloadable = true,
                           .created_us = now,
                           .blob = str_z(o->blob.z)};
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].downloadable || !str_eq(rows[i].filename, o->name))
            continue;
        if (str_eq(rows[i].blob, row.blob)) { /* the same again */
            o->file_id = rows[i].id;
            return 0;
        }
        int rc = tx_file_delete(tx, ws, id_str(&rows[i].id), now, err);
        if (rc && rc != ERR_NOT_FOUND)
            return rc;
    }
    int rc = blob_upload_settle(o->upload, err);
    if (rc == 0)
        rc = tx_file_insert(tx, ws, &row, err);
    if (rc == 0)
        o->file_id = row.id;
    return rc;
}

static int list_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct harvest *h = CONTAINER_OF(job, struct harvest, job);
    AUTO_ARENA struct arena a;
    struct session_row session;
    struct file_row *rows;
    size_t n;
    bool more;
    arena_init(&a, HARVEST_ARENA);
    h->listed = false;
    int rc = tx_session_get(tx, STR_NONE, id_str(&h->id), &a, &session, err);
    if (rc)
        return rc;
    /* After a restart: what runs will rest again. */
    if (h->sweep && session.status != SESSION_IDLE && session.status != SESSION_TERMINATED)
        return 0;
    struct str ws = id_str(&session.workspace_id);
    const struct file_filter filter = {
        .scope_id = id_str(&h->id), .limit = LIMIT_OUTPUTS * 4, .now_us = clock_unix_us()};
    rc = tx_file_list(tx, ws, &filter, &a, &rows, &n, &more, err);
    for (size_t i = 0; i < h->n && rc == 0; i++)
        if (h->outputs[i].changed)
            rc = replace(tx, h, ws, &h->outputs[i], rows, n, err);
    h->listed = rc == 0;
    return rc;
}

/* ---- noting ---- */

static void write_seen(struct harvest *h)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf b = BUF_INIT(SEEN_MAX);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "files");
    jw_arr(&w);
    for (size_t i = 0; i < h->n; i++) {
        const struct output *o = &h->outputs[i];
        jw_obj(&w);
        jw_kstr(&w, "path", o->path);
        jw_kstr(&w, "name", o->name);
        jw_ki64(&w, "size", o->st.st_size);
        jw_ki64(&w, "mtime", ns_of(o->st.st_mtim));
        jw_ki64(&w, "ctime", ns_of(o->st.st_ctim));
        jw_ki64(&w, "inode", (int64_t)o->st.st_ino);
        jw_kstr(&w, "file", id_str(&o->file_id));
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    seen_path(h, "outputs.json", path);
    /* The directory may be gone with its session: then there is nothing to note. */
    if (buf_ok(&b) && access(h->paths.dir, F_OK) == 0)
        (void)!fd_write_file_atomic(path, buf_view(&b), 0600, NULL);
}

static void note_work(struct loop_work *w)
{
    struct harvest *h = CONTAINER_OF(w, struct harvest, work);
    if (h->listed)
        write_seen(h);
    drop_outputs(h);
    fd_close(TAKE_FD(h->lock));
    arena_reset(&h->arena);
}

/* ---- on the loop ---- */

static void begin(struct harvest *h);

static void harvest_free(struct harvest *h)
{
    struct sandboxes *s = h->s;
    list_remove(&h->node);
    drop_outputs(h);
    fd_close(h->lock);
    arena_fini(&h->arena);
    mem_free(h);
    sandboxes_job_ended(s);
}

static void noted(struct loop_work *w)
{
    struct harvest *h = CONTAINER_OF(w, struct harvest, work);
    if (h->again && !h->s->closing)
        begin(h);
    else
        harvest_free(h);
}

static void listed(struct store_job *job, const struct err *err)
{
    struct harvest *h = CONTAINER_OF(job, struct harvest, job);
    if (err->code && err->code != ERR_NOT_FOUND)
        log_line(LOG_WARN, "outputs could not be listed; trying again when the session rests",
                 "session", h->id.z, "error", err->msg, NULL);
    loop_work(h->s->loop, &h->work, note_work, noted);
}

static void scanned(struct loop_work *w)
{
    struct harvest *h = CONTAINER_OF(w, struct harvest, work);
    if (h->skipped)
        log_line(LOG_WARN,
                 "not all outputs were listed: too many, too large, or over the disk limit",
                 "session", h->id.z, NULL);
    if (h->s->closing || !any_changed(h)) {
        loop_work(h->s->loop, &h->work, note_work, noted);
        return;
    }
    h->job = (struct store_job){.fn = list_fn, .done = listed};
    h->s->store.write(h->s->store.self, &h->job);
}

static void begin(struct harvest *h)
{
    h->again = h->listed = false;
    loop_work(h->s->loop, &h->work, scan_work, scanned);
}

static struct harvest *harvest_new(struct sandboxes *s, struct str session_id)
{
    struct harvest *h = mem_zalloc(sizeof *h);
    h->s = s;
    h->id = id_from(session_id);
    h->lock = -1;
    arena_init(&h->arena, HARVEST_ARENA);
    session_paths(&s->host, h->id.z, &h->paths);
    list_init(&h->node);
    return h;
}

static void start(struct sandboxes *s, struct str session_id, bool sweep)
{
    if (!s->store.write || !s->host.data[0])
        return;
    list_for_each (it, &s->harvests) {
        struct harvest *h = LIST_ENTRY(it, struct harvest, node);
        if (str_eq(id_str(&h->id), session_id)) {
            h->again = true;
            h->sweep = h->sweep && sweep;
            return;
        }
    }
    struct harvest *h = harvest_new(s, session_id);
    h->sweep = sweep;
    list_push(&s->harvests, &h->node);
    sandboxes_job_began(s);
    begin(h);
}

void harvest_start(struct sandboxes *s, struct str session_id)
{
    start(s, session_id, false);
}

/* ---- after a restart ---- */

struct harvest_sweep {
    struct loop_work work;
    struct sandboxes *s;
    struct id *due;
    size_t n, cap;
};

static bool is_due(struct sandboxes *s, struct str session_id)
{
    struct harvest *h = harvest_new(s, session_id);
    scan(h, true);
    bool due = any_changed(h);
    drop_outputs(h);
    arena_fini(&h->arena);
    mem_free(h);
    return due;
}

static void sweep_work(struct loop_work *work)
{
    struct harvest_sweep *w = CONTAINER_OF(work, struct harvest_sweep, work);
    DIR *d = opendir(w->s->host.dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct str name = str_z(e->d_name);
        if (!id_valid(name, "sesn") || !is_due(w->s, name))
            continue;
        if (w->n == w->cap) {
            w->cap = w->cap ? w->cap * 2 : 16;
            w->due = mem_realloc(w->due, w->cap * sizeof *w->due);
        }
        w->due[w->n++] = id_from(name);
    }
    if (d)
        closedir(d);
}

static void swept(struct loop_work *work)
{
    struct harvest_sweep *w = CONTAINER_OF(work, struct harvest_sweep, work);
    struct sandboxes *s = w->s;
    for (size_t i = 0; i < w->n && !s->closing; i++)
        start(s, id_str(&w->due[i]), true);
    mem_free(w->due);
    mem_free(w);
    sandboxes_job_ended(s);
}

void harvest_sweep(struct sandboxes *s)
{
    if (!s->store.write || !s->host.data[0])
        return;
    struct harvest_sweep *w = mem_zalloc(sizeof *w);
    w->s = s;
    sandboxes_job_began(s);
    loop_work(s->loop, &w->work, sweep_work, swept);
}
