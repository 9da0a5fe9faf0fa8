/* The tools glob and grep. */
#include "hand/tools.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WALK_DEPTH = 40,
    WALK_ENTRIES = 500000,
    GLOB_PATTERNS = 64, /* what a pattern's braces may expand into */
    GLOB_MATCHES = 100000,
    GREP_LINE_MAX = 2000, /* own walker only: longer lines are not looked at */
    GREP_ERROR_MAX = 8192,
};

/* ---- walking ---- */

static bool skipped(const char *name)
{
    static const char *const names[] = {".", "..", ".git", "node_modules"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eqz(str_z(name), names[i]))
            return true;
    return false;
}

static bool walk_dir(struct walk *w, int fd, unsigned depth);

static bool walk_entry(struct walk *w, int dir, const struct dirent *e, unsigned depth)
{
    unsigned char type = e->d_type;
    struct stat st;
    if (type == DT_UNKNOWN && fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        type = S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_LNK;
    size_t keep = w->rel.len;
    if (keep)
        buf_ch(&w->rel, '/');
    buf_z(&w->rel, e->d_name);
    bool on = buf_ok(&w->rel);
    if (on && type == DT_REG) {
        on = w->file(w, dir, e->d_name, buf_view(&w->rel));
    } else if (on && type == DT_DIR && depth < WALK_DEPTH) {
        int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        on = sub < 0 || walk_dir(w, sub, depth + 1);
    }
    w->rel.len = keep;
    return on;
}

/* Takes `fd`. False: stop. */
static bool walk_dir(struct walk *w, int fd, unsigned depth)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return true;
    }
    bool on = true;
    struct dirent *e;
    while (on && (e = readdir(d))) {
        if (skipped(e->d_name))
            continue;
        on = w->left-- > 0 && walk_entry(w, dirfd(d), e, depth);
    }
    closedir(d);
    return on;
}

int walk_tree(struct walk *w, const char *root)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    w->rel = BUF_INIT(PATH_MAX * 4);
    w->left = WALK_ENTRIES;
    walk_dir(w, fd, 0);
    buf_fini(&w->rel);
    return 0;
}

/* ---- glob patterns ---- */

/* Bytes of the code point at s. */
static size_t step(struct str s)
{
    size_t n = 1;
    while (n < s.len && ((unsigned char)s.ptr[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* Matches one character against the set at p (behind its '['); *used is the set's length, 0 when it
 * has no end and is an ordinary '['. */
static bool match_set(struct str p, struct str s, size_t *used)
{
    size_t i = 0;
    bool negated = p.len && (p.ptr[0] == '!' || p.ptr[0] == '^'), hit = false;
    i += negated;
    for (size_t first = i; i < p.len; i++) {
        if (p.ptr[i] == ']' && i > first) {
            *used = i + 1;
            return hit != negated;
        }
        if (p.ptr[i] == '\\' && i + 1 < p.len)
            i++;
        unsigned char lo = (unsigned char)p.ptr[i], hi = lo;
        if (i + 2 < p.len && p.ptr[i + 1] == '-' && p.ptr[i + 2] != ']') {
            hi = (unsigned char)p.ptr[i + 2];
            i += 2;
        }
        unsigned char c = (unsigned char)s.ptr[0];
        hit = hit || (c >= lo && c <= hi);
    }
    *used = 0;
    return false;
}

/* One pattern character against the front of s: how far both move, or false. */
static bool match_one(struct str p, struct str s, size_t *pn, size_t *sn)
{
    *pn = 1;
    *sn = s.len ? step(s) : 0;
    if (!s.len)
        return false;
    size_t used = 0;
    switch (p.ptr[0]) {
    case '?': return true;
    case '[': {
        bool hit = match_set(str_skip(p, 1), s, &used);
        if (used) {
            *pn = used + 1;
            return hit;
        }
        break;
    }
    case '\\':
        if (p.len > 1) {
            *pn = 2;
            *sn = 1;
            return p.ptr[1] == s.ptr[0];
        }
        break;
    default: break;
    }
    *sn = 1;
    return p.ptr[0] == s.ptr[0];
}

/* One path segment; linear but for the last star, which is all that ever needs to be retried. */
static bool match_segment(struct str p, struct str s)
{
    if (s.len && s.ptr[0] == '.' && (!p.len || p.ptr[0] != '.'))
        return false;
    struct str star_p = STR_NONE, star_s = s;
    for (;;) {
        size_t pn, sn;
        if (p.len && p.ptr[0] == '*') {
            p = star_p = str_skip(p, 1);
            star_s = s;
        } else if (p.len && match_one(p, s, &pn, &sn)) {
            p = str_skip(p, pn);
            s = str_skip(s, sn);
        } else if (!p.len && !s.len) {
            return true;
        } else if (str_some(star_p) && star_s.len) {
            star_s = str_skip(star_s, step(star_s));
            p = star_p;
            s = star_s;
        } else {
            return false;
        }
    }
}

/* The same scheme one level up: "**" is the star of segments, and only the last one is retried. */
bool glob_match(struct str pattern, struct str path)
{
    struct str star_p = STR_NONE, star_s = STR_NONE;
    bool starred = false;
    struct str p = pattern, s = path;
    for (;;) {
        struct str p_rest = p, s_rest = s;
        struct str ps = str_some(p) ? str_split(&p_rest, '/') : STR_NONE;
        struct str ss = str_some(s) ? str_split(&s_rest, '/') : STR_NONE;
        if (str_some(p) && (ps.len == 0 || str_eqz(ps, "."))) {
            p = p_rest;
        } else if (str_some(p) && str_eqz(ps, "**")) {
            /* At the end of a pattern it stands for every file below. */
            p = star_p = str_some(p_rest) ? p_rest : STR("*");
            star_s = s;
            starred = true;
        } else if (str_some(p) && str_some(s) && match_segment(ps, ss)) {
            p = p_rest;
            s = s_rest;
        } else if (!str_some(p) && !str_some(s)) {
            return true;
        } else if (starred && str_some(star_s)) {
            struct str skipped_one = str_split(&star_s, '/');
            if ((skipped_one.len && skipped_one.ptr[0] == '.') || !str_some(star_s))
                return false;
            p = star_p;
            s = star_s;
        } else {
            return false;
        }
    }
}

struct patterns {
    struct arena *arena;
    struct str list[GLOB_PATTERNS];
    size_t n;
    bool too_many;
};

/* Where the brace that opens at `open` closes, or -1; commas at its level are counted. */
static ptrdiff_t closing(struct str p, size_t open, size_t *commas)
{
    int depth = 0;
    *commas = 0;
    for (size_t i = open; i < p.len; i++) {
        if (p.ptr[i] == '\\')
            i++;
        else if (p.ptr[i] == '{')
            depth++;
        else if (p.ptr[i] == ',' && depth == 1)
            ++*commas;
        else if (p.ptr[i] == '}' && --depth == 0)
            return (ptrdiff_t)i;
    }
    return -1;
}

static void expand(struct patterns *ps, struct str p, size_t from);

static void expand_at(struct patterns *ps, struct str p, size_t open, size_t close)
{
    size_t start = open + 1;
    int depth = 0;
    for (size_t i = start; i <= close; i++) {
        char c = p.ptr[i];
        depth += c == '{' ? 1 : c == '}' && i < close ? -1 : 0;
        if (i != close && (c != ',' || depth != 0))
            continue;
        struct str head = str_take(p, open), alt = str_n(p.ptr + start, i - start);
        struct str tail = str_skip(p, close + 1);
        struct str one = arena_printf(ps->arena, STR_FMT STR_FMT STR_FMT, STR_ARG(head),
                                      STR_ARG(alt), STR_ARG(tail));
        expand(ps, one, open);
        start = i + 1;
    }
}

static void expand(struct patterns *ps, struct str p, size_t from)
{
    if (ps->too_many || !str_some(p))
        return;
    for (size_t i = from; i < p.len; i++) {
        size_t commas;
        if (p.ptr[i] == '\\') {
            i++;
            continue;
        }
        ptrdiff_t close = p.ptr[i] == '{' ? closing(p, i, &commas) : -1;
        if (close > 0 && commas) {
            expand_at(ps, p, i, (size_t)close);
            return;
        }
    }
    if (ps->n == GLOB_PATTERNS)
        ps->too_many = true;
    else
        ps->list[ps->n++] = p;
}

/* ---- glob ---- */

struct match {
    struct str rel;
    int64_t mtime_ns;
};

struct glob {
    struct patterns patterns;
    struct arena arena;
    struct match *matches;
    size_t n, cap;
};

static bool glob_file(struct walk *w, int dir, const char *name, struct str rel)
{
    struct glob *g = w->arg;
    bool hit = false;
    for (size_t i = 0; i < g->patterns.n && !hit; i++)
        hit = glob_match(g->patterns.list[i], rel);
    if (!hit)
        return true;
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 256;
        g->matches = mem_realloc(g->matches, g->cap * sizeof *g->matches);
    }
    struct stat st = {.st_size = 0};
    int64_t mtime = 0;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    struct str kept = arena_str(&g->arena, rel);
    if (!str_some(kept))
        return false;
    g->matches[g->n++] = (struct match){kept, mtime};
    return g->n < GLOB_MATCHES;
}

static int newest_first(const void *a, const void *b)
{
    const struct match *x = a, *y = b;
    if (x->mtime_ns != y->mtime_ns)
        return x->mtime_ns > y->mtime_ns ? -1 : 1;
    return str_cmp(x->rel, y->rel);
}

static bool ascends(struct str pattern)
{
    size_t start = 0;
    for (size_t i = 0; i <= pattern.len; i++) {
        if (i < pattern.len && !strchr("\\/{},", pattern.ptr[i]))
            continue;
        if (str_eqz(str_n(pattern.ptr + start, i - start), ".."))
            return true;
        start = i + 1;
    }
    return false;
}

static void glob_print(struct glob *g, const char *root, struct buf *out)
{
    qsort(g->matches, g->n, sizeof *g->matches, newest_first);
    struct str base = str_z(root);
    while (base.len > 1 && base.ptr[base.len - 1] == '/')
        base.len--;
    for (size_t i = 0; i < g->n && i < LIMIT_GLOB_RESULTS; i++) {
        if (i)
            buf_ch(out, '\n');
        buf_str(out, base);
        if (base.len > 1)
            buf_ch(out, '/');
        buf_str(out, g->matches[i].rel);
    }
    if (g->n == 0)
        buf_z(out, "no matches");
}

bool tool_glob(const struct tool_env *env, const struct json *input, struct buf *out)
{
    struct str pattern, path = STR_NONE;
    char root[PATH_MAX];
    if (!tool_arg(input, "glob", "pattern", false, &pattern, out))
        return false;
    const struct json *p = json_get(input, "path");
    if (p && p->type != JSON_NULL && !tool_arg(input, "glob", "path", true, &path, out))
        return false;
    if (pattern.ptr[0] == '/')
        return tool_fail(out, "glob: absolute pattern not permitted; pass a relative pattern (and "
                              "optionally path)");
    if (memchr(pattern.ptr, '\0', pattern.len))
        return tool_fail(out, "glob: the pattern contains a NUL character");
    if (ascends(pattern))
        return tool_fail(out, "glob: \"..\" is not permitted in the pattern");
    if (!tool_path(env, "glob", path.len ? path : str_z(env->workdir), root, out))
        return false;
    struct glob g = {.n = 0};
    arena_init(&g.arena, (size_t)64 << 20);
    g.patterns.arena = &g.arena;
    expand(&g.patterns, pattern, 0);
    struct walk w = {.file = glob_file, .arg = &g};
    bool ok = true;
    int sys = 0;
    if (g.patterns.too_many || g.arena.failed)
        ok = tool_fail(out, "glob: the braces expand into more than %d patterns", GLOB_PATTERNS);
    else if ((sys = walk_tree(&w, root)) != 0)
        ok = tool_fail_sys(out, "glob", path.len ? path : str_z(env->workdir), sys);
    else
        glob_print(&g, root, out);
    mem_free(g.matches);
    arena_fini(&g.arena);
    return ok;
}

/* ---- grep with ripgrep ---- */

static const char *find_rg(void)
{
    static const char *const places[] = {"/usr/local/bin/rg", "/usr/bin/rg", "/bin/rg"};
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

static pid_t start_rg(const char *rg, const char *pattern, const char *path, const int fds[2])
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(fds[0], 1) < 0 || dup2(fds[1], 2) < 0)
        _exit(126);
    execl(rg, "rg", "--no-config", "-n", "-H", "--no-heading", "-e", pattern, "--", path,
          (char *)NULL);
    _exit(127);
}

/* One read of what rg wrote; false when there is no more. What does not fit is dropped. */
static bool read_some(int fd, struct buf *to, size_t max, bool *cut)
{
    char chunk[65536];
    ssize_t n;
    do
        n = read(fd, chunk, sizeof chunk);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    size_t room = max - to->len;
    buf_put(to, chunk, (size_t)n < room ? (size_t)n : room);
    *cut = (size_t)n > room;
    return true;
}

/* Reads hits and complaints to their ends, so that neither keeps rg waiting, or until there are
 * LIMIT_GREP_OUTPUT bytes of hits; true when those were cut. */
static bool read_rg(int hits, int errors, struct buf *out, struct buf *said)
{
    struct pollfd fds[2] = {{.fd = hits, .events = POLLIN}, {.fd = errors, .events = POLLIN}};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        bool cut = false, ignored;
        if (fds[0].fd >= 0 && fds[0].revents && !read_some(hits, out, LIMIT_GREP_OUTPUT, &cut))
            fds[0].fd = -1;
        if (cut)
            return true;
        if (fds[1].fd >= 0 && fds[1].revents && !read_some(errors, said, GREP_ERROR_MAX, &ignored))
            fds[1].fd = -1;
    }
    return false;
}

static void cut_note(struct buf *out)
{
    buf_printf(out, "\n[output truncated at %d bytes]", LIMIT_GREP_OUTPUT);
}

static bool rg_verdict(int status, bool cut, const struct buf *errors, struct buf *out)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (cut) {
        cut_note(out);
        return true;
    }
    while (out->len && out->data[out->len - 1] == '\n')
        out->len--;
    /* 2 with hits: some files could not be read, as in any tree. */
    if (code == 0 || (code == 2 && out->len))
        return true;
    if (code == 1) {
        buf_z(out, "no matches");
        return true;
    }
    struct str said = str_trim(buf_view(errors));
    out->len = 0;
    return said.len ? tool_fail(out, "grep: rg failed: " STR_FMT, STR_ARG(said))
                    : tool_fail(out, "grep: rg failed: exit %d", code);
}

static bool grep_rg(const char *rg, const char *pattern, const char *path, struct buf *out)
{
    int hits[2], errors[2];
    AUTO_BUF struct buf said = BUF_INIT(GREP_ERROR_MAX);
    if (pipe2(hits, O_CLOEXEC) < 0)
        return tool_fail(out, "grep: cannot start rg: errno %d", errno);
    if (pipe2(errors, O_CLOEXEC) < 0) {
        int sys = errno;
        close(hits[0]);
        close(hits[1]);
        return tool_fail(out, "grep: cannot start rg: errno %d", sys);
    }
    pid_t pid = start_rg(rg, pattern, path, (int[]){hits[1], errors[1]});
    int sys = errno;
    close(hits[1]);
    close(errors[1]);
    bool cut = pid > 0 && read_rg(hits[0], errors[0], out, &said);
    close(hits[0]); /* a writer that was cut off dies of it */
    close(errors[0]);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return tool_fail(out, "grep: cannot start rg: errno %d", sys);
    return rg_verdict(status, cut, &said, out);
}

/* ---- grep without ripgrep ---- */

struct grep {
    regex_t re;
    struct buf *out;
    const char *root;
    int64_t until_us;
    bool cut, late;
};

static bool put_hit(struct grep *g, struct str rel, size_t line, const char *text)
{
    AUTO_BUF struct buf hit = BUF_INIT(PATH_MAX * 4 + GREP_LINE_MAX);
    buf_z(&hit, g->root);
    if (rel.len) {
        buf_ch(&hit, '/');
        buf_str(&hit, rel);
    }
    buf_printf(&hit, ":%zu:%s", line, text);
    if (g->out->len + hit.len + 1 > LIMIT_GREP_OUTPUT) {
        g->cut = true;
        return false;
    }
    if (g->out->len)
        buf_ch(g->out, '\n');
    buf_str(g->out, buf_view(&hit));
    return true;
}

static bool grep_stream(struct grep *g, FILE *f, struct str rel)
{
    char *text = NULL;
    size_t cap = 0, number = 0;
    ssize_t n;
    bool on = true;
    while (on && (n = getline(&text, &cap, f)) >= 0) {
        number++;
        if (memchr(text, '\0', (size_t)n)) /* a binary file */
            break;
        if (n && text[n - 1] == '\n')
            text[--n] = '\0';
        if (n > GREP_LINE_MAX)
            continue;
        if (regexec(&g->re, text, 0, NULL, 0) == 0)
            on = put_hit(g, rel, number, text);
        if (number % 256 == 0 && clock_mono_us() > g->until_us)
            on = !(g->late = true);
    }
    free(text); /* getline's */
    return on;
}

static bool grep_file(struct walk *w, int dir, const char *name, struct str rel)
{
    struct grep *g = w->arg;
    if (clock_mono_us() > g->until_us)
        return !(g->late = true);
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        fd_close(fd);
        return true;
    }
    bool on = grep_stream(g, f, rel);
    fclose(f);
    return on;
}

static bool grep_walk(const char *pattern, const char *path, struct str shown, struct buf *out)
{
    struct grep g = {
        .out = out, .root = path, .until_us = clock_mono_us() + (int64_t)LIMIT_GREP_MS * 1000};
    int rc = regcomp(&g.re, pattern, REG_EXTENDED | REG_NOSUB);
    if (rc) {
        char text[256];
        regerror(rc, &g.re, text, sizeof text);
        return tool_fail(out, "grep: invalid regex: %s", text);
    }
    struct stat st;
    struct walk w = {.file = grep_file, .arg = &g};
    int sys = stat(path, &st) < 0 ? errno : 0;
    if (sys == 0 && S_ISREG(st.st_mode))
        grep_file(&w, AT_FDCWD, path, STR_NONE);
    else if (sys == 0)
        sys = walk_tree(&w, path);
    regfree(&g.re);
    if (sys)
        return tool_fail_sys(out, "grep", shown, sys);
    if (g.late && out->len == 0)
        return tool_fail(out, "grep: timed out after %ds", LIMIT_GREP_MS / 1000);
    if (g.late)
        buf_printf(out, "\n[the search was cut short after %d ms]", LIMIT_GREP_MS);
    else if (g.cut)
        cut_note(out);
    else if (out->len == 0)
        buf_z(out, "no matches");
    return true;
}

bool tool_grep(const struct tool_env *env, const struct json *input, struct buf *out)
{
    struct str pattern, path = STR_NONE;
    char abs[PATH_MAX];
    if (!tool_arg(input, "grep", "pattern", false, &pattern, out))
        return false;
    const struct json *p = json_get(input, "path");
    if (p && p->type != JSON_NULL && !tool_arg(input, "grep", "path", true, &path, out))
        return false;
    if (memchr(pattern.ptr, '\0', pattern.len))
        return tool_fail(out, "grep: the pattern contains a NUL character");
    struct str shown = path.len ? path : str_z(env->workdir);
    if (!tool_path(env, "grep", shown, abs, out))
        return false;
    AUTO_FREE char *z = mem_dupz(pattern.ptr, pattern.len);
    if (access(abs, F_OK) < 0)
        return tool_fail_sys(out, "grep", shown, errno);
    const char *rg = env->no_rg ? NULL : find_rg();
    return rg ? grep_rg(rg, z, abs, out) : grep_walk(z, abs, shown, out);
}
