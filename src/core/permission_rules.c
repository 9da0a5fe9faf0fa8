/* The rules are few and narrow on purpose: what they do not know is the judge's. They save a
 * request for what is obvious; the boundary is the sandbox, not this file. */
#include "core/permission_rules.h"

/* ---- words of a command line, as far as a shell would make them without expanding anything ----
 */

enum { WORDS_MAX = 64, WORD_BYTES = 512 };

struct words {
    size_t n;
    char word[WORDS_MAX][WORD_BYTES];
    bool glob; /* a pattern stands outside of quotes: files could become options */
};

/* False when there are too many, or a quote is not closed. */
static bool split(struct str text, struct words *w)
{
    bool inside = false;
    char quote = 0;
    size_t len = 0;
    w->n = 0;
    w->glob = false;
    for (size_t i = 0; i <= text.len; i++) {
        char c = i < text.len ? text.ptr[i] : ' ';
        bool end = i == text.len || (!quote && (c == ' ' || c == '\t'));
        if (end && quote)
            return false;
        if (end) {
            if (inside)
                w->word[w->n++][len] = '\0';
            inside = false;
            len = 0;
            continue;
        }
        if (w->n == WORDS_MAX || len == WORD_BYTES - 1)
            return false;
        inside = true;
        if (c == quote) {
            quote = 0;
        } else if (!quote && (c == '\'' || c == '"')) {
            quote = c;
        } else {
            w->glob = w->glob || (!quote && str_find_ch(STR("*?["), c) >= 0);
            w->word[w->n][len++] = c;
        }
    }
    return true;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool begins(const char *word, const char *with)
{
    return strncmp(word, with, strlen(with)) == 0;
}

/* ---- harmless commands: they read and say, whatever their arguments are ----
 *
 * git is none of them. It runs what the settings of the repository name (core.fsmonitor, and more),
 * and any directory with a file HEAD and the folders objects and refs is one to it: files that a
 * rule lets the agent write make the workspace itself such a repository. */

enum { REFUSED_MAX = 6 };

static const struct {
    const char *name;
    const char *refused[REFUSED_MAX]; /* beginnings of arguments that run or change something */
} harmless[] = {
    {"ls", {NULL}},
    {"pwd", {NULL}},
    {"cat", {NULL}},
    {"head", {NULL}},
    {"tail", {NULL}},
    {"wc", {NULL}},
    {"echo", {NULL}},
    {"true", {NULL}},
    {"grep", {NULL}},
    {"rg", {"--pre", "--hostname-bin"}},
    {"find", {"-exec", "-ok", "-delete", "-fprint", "-fls"}},
};

static bool arguments_fit(const struct words *w, const char *const *refused)
{
    if (refused[0] && w->glob)
        return false;
    for (size_t i = 1; i < w->n; i++)
        for (size_t k = 0; k < REFUSED_MAX && refused[k]; k++)
            if (begins(w->word[i], refused[k]))
                return false;
    return true;
}

static bool is_harmless(struct str command, struct words *w)
{
    for (size_t i = 0; i < command.len; i++) {
        unsigned char c = (unsigned char)command.ptr[i];
        if ((c < 0x20 && c != '\t') || str_find_ch(STR(";&|><`$(){}\\"), (char)c) >= 0)
            return false;
    }
    if (!split(command, w) || w->n == 0)
        return false;
    for (size_t i = 0; i < COUNT_OF(harmless); i++)
        if (is(w->word[0], harmless[i].name))
            return arguments_fit(w, harmless[i].refused);
    return false;
}

/* ---- dangerous commands: there is no job that needs them ---- */

static bool any_word(const struct words *w, const char *const *list)
{
    for (size_t i = 0; i < w->n; i++)
        for (size_t k = 0; list[k]; k++)
            if (is(w->word[i], list[k]))
                return true;
    return false;
}

static bool removes_all(const struct words *w)
{
    static const char *const everything[] = {
        "/", "/*", "~", "~/", "~/*", "$HOME", "$HOME/", "$HOME/*", "--no-preserve-root", NULL};
    bool deep = false;
    for (size_t i = 1; i < w->n; i++) {
        const char *word = w->word[i];
        deep = deep || is(word, "--recursive") ||
               (word[0] == '-' && word[1] != '-' && strpbrk(word, "rR"));
    }
    return deep && any_word(w, everything);
}

static bool writes_device(const struct words *w)
{
    for (size_t i = 1; i < w->n; i++)
        if (begins(w->word[i], "of=/dev/") && !is(w->word[i], "of=/dev/null"))
            return true;
    return false;
}

/* One simple command; `piped`: it reads what a download prints. */
static bool is_dangerous_one(const struct words *w, bool piped)
{
    static const char *const ends[] = {"shutdown", "reboot", "poweroff", "halt", NULL};
    static const char *const shells[] = {"sh", "bash", "dash", "zsh", "python", "python3", NULL};
    size_t at = w->n && is(w->word[0], "sudo") ? 1 : 0;
    if (at >= w->n)
        return false;
    const char *slash = strrchr(w->word[at], '/'), *name = slash ? slash + 1 : w->word[at];
    if (is(name, "rm"))
        return removes_all(w);
    if (is(name, "dd"))
        return writes_device(w);
    if (is(name, "mkfs") || begins(name, "mkfs."))
        return true;
    for (size_t i = 0; ends[i]; i++)
        if (is(name, ends[i]))
            return true;
    for (size_t i = 0; piped && shells[i]; i++)
        if (is(name, shells[i]))
            return true;
    return false;
}

static bool downloads(const struct words *w)
{
    return w->n && (is(w->word[0], "curl") || is(w->word[0], "wget"));
}

static bool is_dangerous(struct str command, struct words *w)
{
    if (str_find(command, STR(":(){")) >= 0) /* fills the process table */
        return true;
    bool fetched = false;
    char quote = 0;
    for (size_t i = 0, from = 0; i <= command.len; i++) {
        char c = i < command.len ? command.ptr[i] : '\n';
        if (c == quote)
            quote = 0;
        else if (!quote && (c == '\'' || c == '"'))
            quote = c;
        if (i < command.len && (quote || str_find_ch(STR(";&|\n(){}"), c) < 0))
            continue;
        /* What cannot be split is nobody's plain danger: the judge sees it whole. */
        bool known = split(str_n(command.ptr + from, i - from), w);
        if (known && is_dangerous_one(w, fetched))
            return true;
        fetched = known && c == '|' && downloads(w);
        from = i + 1;
    }
    return false;
}

static enum verdict rule_bash(const struct json *input)
{
    const struct json *command = json_get(input, "command");
    if (!json_is(command, JSON_STRING)) /* a new shell, or nothing that could run */
        return json_is_true(json_get(input, "restart")) ? VERDICT_ALLOW : VERDICT_ASK;
    struct words w;
    if (is_dangerous(command->str, &w))
        return VERDICT_DENY;
    return is_harmless(command->str, &w) ? VERDICT_ALLOW : VERDICT_ASK;
}

/* ---- paths ---- */

/* By its text alone: what links lead to is the sandbox's business. */
static enum verdict rule_write(const struct json *input)
{
    static const char *const roots[] = {"/workspace/", "/tmp/", "/home/agent/",
                                        "/mnt/session/outputs/"};
    struct str path = json_get_str(input, "file_path"), piece;
    char clean[4096];
    size_t len = 0;
    bool hidden = false, git = false;
    if (path.len == 0)
        return VERDICT_ASK;
    if (path.len > 2048 || str_find_ch(path, '\0') >= 0)
        return VERDICT_DENY;
    if (path.ptr[0] != '/') { /* relative to the workspace */
        memcpy(clean, "/workspace", 10);
        len = 10;
    }
    while (str_some(path)) {
        piece = str_split(&path, '/');
        if (piece.len == 0 || str_eqz(piece, "."))
            continue;
        if (str_eqz(piece, ".."))
            return VERDICT_DENY;
        hidden = hidden || piece.ptr[0] == '.';
        git = git || str_eqz(piece, ".git");
        clean[len++] = '/';
        memcpy(clean + len, piece.ptr, piece.len);
        len += piece.len;
    }
    struct str whole = str_n(clean, len);
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        if (!str_starts(whole, str_z(roots[i])))
            continue;
        /* Settings there decide what commands do that look harmless. */
        return git || (hidden && str_starts(whole, STR("/home/agent/"))) ? VERDICT_ASK
                                                                         : VERDICT_ALLOW;
    }
    return VERDICT_DENY;
}

enum verdict rule_of(enum tool_id tool, const struct json *input)
{
    if (!json_is(input, JSON_OBJECT))
        return VERDICT_ASK;
    switch (tool) {
    case TOOL_READ:
    case TOOL_GLOB:
    case TOOL_GREP: return VERDICT_ALLOW;
    case TOOL_WRITE:
    case TOOL_EDIT: return rule_write(input);
    case TOOL_BASH: return rule_bash(input);
    case TOOL_WEB_FETCH:
    case TOOL_WEB_SEARCH:
    case TOOL_COUNT: break;
    }
    return VERDICT_ASK;
}
