#include "core/web_rules.h"

enum { CANDIDATES_MAX = 16, URL_BYTES_MAX = 8192 };

/* ---- domains ---- */

#define REMEDY "; provide a plain hostname like \"example.com\""

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return (lower(c) >= 'a' && lower(c) <= 'z') || is_digit(c) || c == '-' || c == '_';
}

static bool ends_with(struct str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.len >= n && str_eq_nocase(str_skip(s, s.len - n), str_z(tail));
}

static struct str last_label(struct str host)
{
    size_t at = host.len;
    while (at > 0 && host.ptr[at - 1] != '.')
        at--;
    return str_skip(host, at);
}

/* No top-level domain is a number: what ends in one is read as an address by somebody. */
static bool looks_like_address(struct str host)
{
    struct str last = last_label(host);
    bool number = last.len > 0;
    for (size_t i = 0; i < last.len && number; i++)
        number = is_digit(last.ptr[i]);
    bool hex = last.len > 1 && last.ptr[0] == '0' && lower(last.ptr[1]) == 'x';
    ptrdiff_t colon = str_find_ch(host, ':');
    bool v6 = colon >= 0 && str_find_ch(str_skip(host, (size_t)colon + 1), ':') >= 0;
    return number || hex || v6 || (host.len && host.ptr[0] == '[');
}

static const char *labels_refused(struct str host)
{
    struct str rest = host;
    size_t n = 0;
    while (str_some(rest)) {
        struct str label = str_split(&rest, '.');
        if (label.len < 1 || label.len > 63 || label.ptr[0] == '-' ||
            label.ptr[label.len - 1] == '-')
            return "This is not a hostname" REMEDY;
        for (size_t i = 0; i < label.len; i++)
            if (!is_name_char(label.ptr[i]))
                return "This is not a hostname" REMEDY;
        n++;
    }
    if (ends_with(host, "localhost") || ends_with(host, ".local") || ends_with(host, ".internal"))
        return "Local names are not supported" REMEDY;
    return n > 1 ? NULL : "Top-level domains and single labels are not supported" REMEDY;
}

const char *web_domain_refused(struct str entry, bool path_allowed)
{
    if (entry.len < 1 || str_utf8_len(entry) > WEB_DOMAIN_CHARS)
        return "A domain has 1 to 255 characters" REMEDY;
    for (size_t i = 0; i < entry.len; i++)
        if ((unsigned char)entry.ptr[i] <= ' ' || (unsigned char)entry.ptr[i] >= 0x7f)
            return "Only ASCII is supported; write an international name as punycode (xn--...)";
    if (str_find(entry, STR("://")) >= 0)
        return "URLs are not supported" REMEDY;
    if (str_find_ch(entry, '*') >= 0)
        return "Wildcards are not supported; a hostname like \"example.com\" covers its subdomains";
    ptrdiff_t slash = str_find_ch(entry, '/');
    struct str host = slash < 0 ? entry : str_take(entry, (size_t)slash);
    if (looks_like_address(host))
        return "IP addresses are not supported" REMEDY;
    if (slash >= 0 && !path_allowed)
        return "Paths are not supported" REMEDY;
    if (slash >= 0 && (str_find_ch(entry, '?') >= 0 || str_find_ch(entry, '#') >= 0))
        return "Queries and fragments are not supported; a path suffix like \"example.com/docs\" "
               "is";
    if (str_find_ch(host, ':') >= 0)
        return "Ports are not supported" REMEDY;
    return labels_refused(host);
}

static bool covers(struct str entry, struct str host, struct str path)
{
    ptrdiff_t slash = str_find_ch(entry, '/');
    struct str name = slash < 0 ? entry : str_take(entry, (size_t)slash);
    struct str suffix = slash < 0 ? STR("/") : str_skip(entry, (size_t)slash);
    if (name.len == 0 || host.len < name.len ||
        !str_eq_nocase(str_skip(host, host.len - name.len), name))
        return false;
    if (host.len > name.len && host.ptr[host.len - name.len - 1] != '.')
        return false;
    while (suffix.len && suffix.ptr[suffix.len - 1] == '/')
        suffix.len--;
    return str_starts(path, suffix) && (path.len == suffix.len || path.ptr[suffix.len] == '/');
}

static bool listed(const struct json *list, struct str host, struct str path)
{
    json_for_each (entry, list)
        if (entry->type == JSON_STRING && covers(entry->str, host, path))
            return true;
    return false;
}

const char *web_host_refused(const struct json *config, struct str host, struct str path)
{
    const struct json *allowed = json_get(config, "allowed_domains");
    if (json_is(allowed, JSON_ARRAY) && !listed(allowed, host, path))
        return "allowed_domains";
    return listed(json_get(config, "blocked_domains"), host, path) ? "blocked_domains" : NULL;
}

/* ---- where a URL came from ---- */

/* Not in a URL, whatever the text around it is. */
static bool ends_url(char c)
{
    return (unsigned char)c <= ' ' || c == 0x7f || strchr("<>\"`|\\{}^", c);
}

static bool holds_host(struct str run, struct str host)
{
    for (size_t i = 0; i < run.len; i++) {
        if ((unsigned char)run.ptr[i] >= 0x80)
            return true; /* an international name: who knows how it is written */
        if (i + host.len <= run.len && str_eq_nocase(str_n(run.ptr + i, host.len), host))
            return true;
    }
    return false;
}

/* `run` starts with a URL; where it ends depends on the text: "(see https://a.example/x)." */
static bool run_is(struct str run, const struct web_url *url)
{
    if (run.len > URL_BYTES_MAX || !holds_host(run, url->host))
        return false;
    struct str whole = run;
    for (int i = 0; i < CANDIDATES_MAX && whole.len; i++) {
        if (url->same(url->arg, whole))
            return true;
        if (!strchr(".,;:!?)]'*_~", whole.ptr[whole.len - 1]))
            break;
        whole.len--;
    }
    int tried = 0;
    for (size_t i = 0; i < run.len && tried < CANDIDATES_MAX; i++)
        if (strchr(")]'", run.ptr[i]) && tried++ >= 0 && url->same(url->arg, str_take(run, i)))
            return true;
    return false;
}

static bool text_has(struct str text, const struct web_url *url)
{
    for (size_t at = 0; at + 8 < text.len; at++) {
        if (lower(text.ptr[at]) != 'h' || !str_eq_nocase(str_n(text.ptr + at, 4), STR("http")))
            continue;
        size_t s = at + 4 + (lower(text.ptr[at + 4]) == 's');
        if (!str_starts(str_skip(text, s), STR("://")))
            continue;
        size_t end = s;
        while (end < text.len && !ends_url(text.ptr[end]))
            end++;
        if (run_is(str_n(text.ptr + at, end - at), url))
            return true;
    }
    return false;
}

static bool content_has(const struct json *content, const struct web_url *url)
{
    if (json_is(content, JSON_STRING))
        return text_has(content->str, url);
    json_for_each (block, content)
        if (block->type == JSON_OBJECT && text_has(json_get_str(block, "text"), url))
            return true;
    return false;
}

static bool filter_allows(const struct json *filter, struct str tool)
{
    struct str type = json_get_str(filter, "type");
    if (str_eqz(type, "none"))
        return false;
    bool only = str_eqz(type, "only"), named = false;
    if (!only && !str_eqz(type, "except"))
        return true;
    json_for_each (it, json_get(filter, "tools"))
        named = named || str_eq(json_get_str(it, "name"), tool);
    return only == named;
}

static const struct json *block_json(struct arena *a, const struct prompt *p,
                                     const struct prompt_block *b)
{
    const struct json *doc = NULL;
    struct err err;
    if (json_parse(a, str_n(p->messages.data + b->at, b->len), JSON_ALLOW_DUPLICATES, &doc, &err))
        return NULL;
    return doc;
}

/* The name of the tool whose call a result before `end` answers. */
static struct str tool_of_result(struct arena *a, const struct prompt *p, size_t end, struct str id)
{
    for (size_t i = end; i-- > 0;) {
        if (p->blocks[i].kind != PROMPT_TOOL_USE)
            continue;
        const struct json *use = block_json(a, p, &p->blocks[i]);
        if (use && str_eq(json_get_str(use, "id"), id))
            return json_get_str(use, "name");
    }
    return STR_NONE;
}

static bool block_gives(const struct agent *ag, const struct prompt *p, size_t i,
                        const struct json *sources, const struct web_url *url)
{
    const struct prompt_block *b = &p->blocks[i];
    bool user = b->kind == PROMPT_TEXT && b->own;
    if (!user && b->kind != PROMPT_TOOL_RESULT)
        return false;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *block = block_json(&a, p, b);
    if (user)
        return block && filter_allows(json_get(sources, "user_input"), STR_NONE) &&
               text_has(json_get_str(block, "text"), url);
    if (!block || !content_has(json_get(block, "content"), url))
        return false;
    struct str name = tool_of_result(&a, p, i, json_get_str(block, "tool_use_id"));
    enum tool_id tool = tool_of(name);
    if (agent_custom_tool(ag, name))
        return filter_allows(json_get(sources, "client_tool_results"), name);
    return (tool == TOOL_WEB_FETCH || tool == TOOL_WEB_SEARCH) &&
           filter_allows(json_get(sources, "server_tool_results"), name);
}

bool web_url_known(const struct agent *ag, const struct prompt *p, const struct web_url *url)
{
    const struct json *sources = json_get(ag->tools[TOOL_WEB_FETCH].config, "url_sources");
    if (!json_is(sources, JSON_OBJECT))
        return true;
    for (size_t i = p->nblocks; i-- > 0;)
        if (block_gives(ag, p, i, sources, url))
            return true;
    return false;
}
