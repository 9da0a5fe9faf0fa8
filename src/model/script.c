#include "model/script.h"

#include "base/fd.h"
#include "base/limits.h"
#include "model/provider.h"
#include "model/script_run.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
    PIECE_BYTES = 48, /* a text is cut into about that much by default, */
    PIECES_MAX = 64,  /* but not into more pieces than this */
};

/* ---- finding ---- */

static bool name_ok(struct str name)
{
    if (name.len == 0 || name.len > 64)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

static const struct script_builtin *builtin_find(struct str name)
{
    for (size_t i = 0; i < script_nbuiltins; i++) {
        if (str_eq(script_builtins[i].name, name))
            return &script_builtins[i];
    }
    return NULL;
}

/* A regular file only: opening a pipe would hold the loop. */
static bool file_find(const struct script_provider *p, struct str name, char path[PATH_MAX])
{
    struct stat st;
    if (!p->dir)
        return false;
    int n = snprintf(path, PATH_MAX, "%s/" STR_FMT ".lua", p->dir, STR_ARG(name));
    return n > 0 && n < PATH_MAX && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int script_check(const struct script_provider *p, struct str name, struct err *err)
{
    char path[PATH_MAX];
    if (name_ok(name) && (builtin_find(name) || file_find(p, name, path)))
        return 0;
    struct buf known = BUF_INIT(200);
    for (size_t i = 0; i < script_nbuiltins; i++)
        buf_printf(&known, "%sscript/" STR_FMT, i ? ", " : "", STR_ARG(script_builtins[i].name));
    err_set(err, ERR_INVALID,
            "model script/" STR_FMT ": there is no such script; built in are " STR_FMT,
            STR_ARG(str_utf8_take(name, 64)), STR_ARG(buf_view(&known)));
    buf_fini(&known);
    return err ? err->code : ERR_INVALID;
}

/* ---- a call ---- */

struct script_call {
    struct model_call base;
    struct script_provider *provider;
    struct model_request req; /* a copy: the caller's may be on its stack; the views stay its own */
    bool ran;
    const struct model_callbacks *cb;
    void *arg;
    struct loop_timer timer;
    struct arena arena;
    struct script_reply reply;
    size_t block;    /* being handed out */
    struct str rest; /* of its text */
    size_t piece_bytes;
    bool started; /* block_start of `block` was called */
    bool waited;  /* the delay of an answer without text is over */
    bool over;
};

static void call_closed(struct loop_timer *timer)
{
    struct script_call *c = CONTAINER_OF(timer, struct script_call, timer);
    arena_fini(&c->arena);
    mem_free(c);
}

static void call_end(struct script_call *c)
{
    if (c->over)
        return;
    c->over = true;
    loop_timer_close(&c->timer, call_closed);
}

static void call_cancel(struct model_call *base)
{
    call_end(CONTAINER_OF(base, struct script_call, base));
}

/* Into `file`, or a view of what is built in. */
static int source_of(const struct script_provider *p, struct str name, struct buf *file,
                     struct str *text, struct err *err)
{
    char path[PATH_MAX];
    if (name_ok(name) && file_find(p, name, path)) {
        int rc = fd_read_file(path, file, err);
        *text = buf_view(file);
        return rc;
    }
    const struct script_builtin *b = builtin_find(name);
    *text = b ? b->text : STR_NONE;
    return b ? 0 : err_set(err, ERR_INVALID, "it is no longer there");
}

void script_facts(const struct script_provider *p, struct str name, struct model_facts *out)
{
    struct err err;
    struct str text;
    AUTO_BUF struct buf file = BUF_INIT(SCRIPT_SOURCE);
    if (source_of(p, name, &file, &text, &err) || script_facts_read(text, out, &err))
        *out = (struct model_facts){0};
}

static void run(struct script_call *c)
{
    struct err err = {0};
    struct str name = str_skip(c->req.model, sizeof "script/" - 1), text;
    AUTO_BUF struct buf file = BUF_INIT(SCRIPT_SOURCE);
    struct model_facts facts;
    int rc = source_of(c->provider, name, &file, &text, &err);
    rc = rc ? rc : script_facts_read(text, &facts, &err);
    if (rc == 0)
        rc = script_run(name, text, &c->req, &c->arena, &c->reply, &err);
    if (rc == 0) {
        script_price(&facts, &c->reply.usage);
    } else {
        c->reply = (struct script_reply){.failing = true};
        struct model_failure *f = &c->reply.failure;
        f->kind = MODEL_ERR_REQUEST;
        char message[ERR_MSG_MAX + 80];
        snprintf(message, sizeof message, "script/" STR_FMT ": %s", STR_ARG(name), err.msg);
        (void)str_copyz(f->message, sizeof f->message,
                        str_utf8_take(str_z(message), sizeof f->message - 1));
    }
    c->ran = true;
}

static struct str next_piece(struct script_call *c)
{
    struct str piece = str_utf8_take(c->rest, c->piece_bytes);
    if (piece.len == 0)
        piece = str_utf8_take(c->rest, 4); /* a character is longer than the piece */
    c->rest = str_skip(c->rest, piece.len);
    return piece;
}

static void block_begin(struct script_call *c, const struct model_block *b)
{
    c->started = true;
    c->rest = b->text;
    size_t n = (size_t)c->reply.chunks;
    if (n == 0)
        n = b->text.len / PIECE_BYTES + 1;
    if (c->reply.chunks == 0 && n > PIECES_MAX)
        n = PIECES_MAX;
    c->piece_bytes = (b->text.len + n - 1) / n;
    if (c->cb->block_start)
        c->cb->block_start(c->arg, c->block, b->type);
}

/* One thing that is seen outside. True when the delay is due after it. */
static bool step(struct script_call *c)
{
    const struct model_block *b = &c->reply.blocks[c->block];
    if (!c->started) {
        block_begin(c, b);
        return false;
    }
    if (c->rest.len) {
        c->waited = true;
        struct str piece = next_piece(c);
        if (c->cb->text_delta)
            c->cb->text_delta(c->arg, c->block, piece);
        return true;
    }
    c->started = false;
    c->block++;
    return false;
}

static void finish(struct script_call *c)
{
    struct script_reply *r = &c->reply;
    call_end(c); /* memory stays until the timer's close call-back */
    if (r->failing) {
        r->failure.usage = r->usage;
        c->cb->failed(c->arg, &r->failure);
        return;
    }
    const struct model_result result = {.blocks = r->blocks,
                                        .nblocks = r->nblocks,
                                        .stop = r->stop,
                                        .refusal_category = r->refusal_category,
                                        .refusal_explanation = r->refusal_explanation,
                                        .usage = r->usage};
    c->cb->done(c->arg, &result);
}

static void on_timer(struct loop_timer *timer)
{
    struct script_call *c = CONTAINER_OF(timer, struct script_call, timer);
    if (!c->ran)
        run(c);
    while (!c->over && c->block < c->reply.nblocks) {
        if (step(c) && c->reply.delay_ms && !c->over) {
            loop_timer_start(&c->timer, c->reply.delay_ms, on_timer);
            return;
        }
    }
    if (c->over)
        return;
    if (!c->waited && c->reply.delay_ms) {
        c->waited = true;
        loop_timer_start(&c->timer, c->reply.delay_ms, on_timer);
        return;
    }
    finish(c);
}

struct model_call *script_start(struct script_provider *p, const struct model_request *req,
                                const struct model_callbacks *cb, void *arg)
{
    struct script_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = call_cancel;
    c->provider = p;
    c->req = *req;
    c->cb = cb;
    c->arg = arg;
    arena_init(&c->arena, LIMIT_JSON_ARENA);
    loop_timer_init(p->loop, &c->timer);
    loop_timer_start(&c->timer, 0, on_timer);
    return &c->base;
}
