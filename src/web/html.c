#include "web/html.h"

#include "base/clock.h"
#include "http/link.h"

#include <libxml/HTMLparser.h>
#include <libxml/xmlerror.h>
#include <limits.h>
#include <stdio.h>

enum {
    DEPTH_MAX = 512, /* as browsers have it; libxml2 looks through all open tags at an end tag */
    LISTS_MAX = 16,
    HREF_MAX = 2048,
    CLOCK_EVERY = 256, /* tags and pieces of text between looks at the clock */
    SPARSE = 16,       /* a page with less text than that is tried again with its boilerplate */
};

enum tag_kind {
    TAG_OTHER,
    TAG_SKIP,        /* with all that is in it */
    TAG_BOILERPLATE, /* the same, unless the page has nothing else */
    TAG_BLOCK,       /* on lines of its own */
    TAG_PARAGRAPH,   /* with an empty line around it */
    TAG_HEADING,
    TAG_BREAK,
    TAG_LIST,
    TAG_ITEM,
    TAG_ROW,
    TAG_CELL,
    TAG_PRE,
    TAG_CODE,
    TAG_LINK,
    TAG_IMAGE,
    TAG_TITLE,
};

static const struct {
    const char *name;
    enum tag_kind kind;
} tags[] = {
    {"a", TAG_LINK},
    {"address", TAG_BLOCK},
    {"article", TAG_BLOCK},
    {"aside", TAG_BOILERPLATE},
    {"audio", TAG_SKIP},
    {"blockquote", TAG_PARAGRAPH},
    {"br", TAG_BREAK},
    {"button", TAG_BOILERPLATE},
    {"canvas", TAG_SKIP},
    {"caption", TAG_BLOCK},
    {"code", TAG_CODE},
    {"dd", TAG_BLOCK},
    {"details", TAG_BLOCK},
    {"dialog", TAG_BOILERPLATE},
    {"div", TAG_BLOCK},
    {"dl", TAG_PARAGRAPH},
    {"dt", TAG_BLOCK},
    {"embed", TAG_SKIP},
    {"fieldset", TAG_BLOCK},
    {"figcaption", TAG_BLOCK},
    {"figure", TAG_BLOCK},
    {"footer", TAG_BOILERPLATE},
    {"form", TAG_BLOCK},
    {"h1", TAG_HEADING},
    {"h2", TAG_HEADING},
    {"h3", TAG_HEADING},
    {"h4", TAG_HEADING},
    {"h5", TAG_HEADING},
    {"h6", TAG_HEADING},
    {"header", TAG_BLOCK},
    {"hr", TAG_PARAGRAPH},
    {"iframe", TAG_SKIP},
    {"img", TAG_IMAGE},
    {"input", TAG_SKIP},
    {"legend", TAG_BLOCK},
    {"li", TAG_ITEM},
    {"main", TAG_BLOCK},
    {"menu", TAG_BOILERPLATE},
    {"nav", TAG_BOILERPLATE},
    {"noscript", TAG_BOILERPLATE},
    {"object", TAG_SKIP},
    {"ol", TAG_LIST},
    {"option", TAG_BOILERPLATE},
    {"p", TAG_PARAGRAPH},
    {"pre", TAG_PRE},
    {"script", TAG_SKIP},
    {"section", TAG_BLOCK},
    {"select", TAG_BOILERPLATE},
    {"style", TAG_SKIP},
    {"summary", TAG_BLOCK},
    {"svg", TAG_SKIP},
    {"table", TAG_PARAGRAPH},
    {"td", TAG_CELL},
    {"template", TAG_SKIP},
    {"textarea", TAG_BOILERPLATE},
    {"th", TAG_CELL},
    {"title", TAG_TITLE},
    {"tr", TAG_ROW},
    {"ul", TAG_LIST},
    {"video", TAG_SKIP},
};

struct list_level {
    bool ordered;
    unsigned items;
};

struct page {
    struct html_text *t;
    xmlParserCtxtPtr parser;
    bool thorough; /* boilerplate too */
    bool stopped;
    unsigned events;
    unsigned depth, skip_at; /* skip_at: the open tag of that depth is left out; 0: none */
    size_t start;            /* of the page in the buffer */
    /* What is due before the next word. */
    unsigned lines; /* line ends */
    bool blank;
    /* Where we are. */
    unsigned pre_at, title_at; /* the depth of the open tag, or 0 */
    bool row_started;
    struct list_level lists[LISTS_MAX];
    unsigned nlists;     /* open ones; deeper than LISTS_MAX are counted only */
    char href[HREF_MAX]; /* of the open link that has no text yet; or "" */
    unsigned link_at;    /* its depth; 0: none */
    bool link_open;      /* "[" stands in the text */
    struct http_link link;
};

/* ---- putting text ---- */

static void stop(struct page *p)
{
    if (p->stopped)
        return;
    p->stopped = true;
    p->t->cut = true;
    xmlStopParser(p->parser);
}

static bool busy(struct page *p)
{
    if (p->stopped)
        return false;
    if (p->t->out->len >= p->t->limit || !buf_ok(p->t->out))
        stop(p);
    else if (p->t->until_us && ++p->events % CLOCK_EVERY == 0 && clock_mono_us() > p->t->until_us)
        stop(p);
    return !p->stopped;
}

static void want_lines(struct page *p, unsigned n)
{
    if (p->link_open) { /* a link stays on its line */
        p->blank = true;
        return;
    }
    if (p->lines < n)
        p->lines = n;
    p->blank = false;
}

/* What was put off, and the bracket of a link that gets its first text now. */
static void flush(struct page *p)
{
    struct buf *out = p->t->out;
    if (out->len > p->start) {
        for (unsigned i = 0; i < p->lines; i++)
            buf_ch(out, '\n');
        if (p->lines == 0 && p->blank)
            buf_ch(out, ' ');
    }
    p->lines = 0;
    p->blank = false;
    if (!p->href[0])
        return;
    struct err err;
    p->link_open = http_link_parse(str_z(p->href), p->t->base, &p->link, &err) == 0;
    p->href[0] = '\0';
    if (p->link_open)
        buf_ch(out, '[');
}

static void put(struct page *p, struct str text)
{
    if (text.len == 0)
        return;
    flush(p);
    buf_str(p->t->out, text);
}

static bool is_blank(struct str s, size_t at, size_t *len)
{
    static const struct str wide[] = {{"\xC2\xA0", 2}, {"\xE2\x80\x8B", 3}, {"\xE2\x80\xA8", 3}};
    *len = 1;
    if (strchr(" \t\n\r\f", s.ptr[at]))
        return true;
    for (size_t i = 0; i < COUNT_OF(wide); i++)
        if (str_starts(str_skip(s, at), wide[i])) {
            *len = wide[i].len;
            return true;
        }
    return false;
}

static void put_words(struct page *p, struct str text)
{
    size_t from = 0, len = 1;
    for (size_t at = 0; at < text.len; at += len) {
        if (!is_blank(text, at, &len))
            continue;
        put(p, str_n(text.ptr + from, at - from));
        from = at + len;
        p->blank = true;
    }
    put(p, str_skip(text, from));
}

static void put_pre(struct page *p, struct str text)
{
    while (str_some(text)) {
        struct str line = str_split(&text, '\n');
        put(p, line);
        if (str_some(text))
            p->lines++;
    }
}

static void put_title(struct page *p, struct str text)
{
    size_t have = strlen(p->t->title), room = HTML_TITLE_MAX - 1 - have;
    text = str_utf8_take(text, room);
    memcpy(p->t->title + have, text.ptr ? text.ptr : "", text.len);
    p->t->title[have + text.len] = '\0';
}

/* ---- tags ---- */

static enum tag_kind kind_of(const char *name)
{
    size_t low = 0, high = COUNT_OF(tags);
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strcmp(name, tags[mid].name);
        if (order == 0)
            return tags[mid].kind;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return TAG_OTHER;
}

static const char *attribute(const xmlChar **atts, const char *name)
{
    for (; atts && atts[0]; atts += 2)
        if (strcmp((const char *)atts[0], name) == 0)
            return atts[1] ? (const char *)atts[1] : "";
    return NULL;
}

static bool style_hides(const char *style)
{
    char flat[256];
    size_t n = 0;
    for (const char *c = style; c && *c && n + 1 < sizeof flat; c++)
        if (!strchr(" \t\r\n", *c))
            flat[n++] = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    flat[n] = '\0';
    return strstr(flat, "display:none") || strstr(flat, "visibility:hidden");
}

static bool is_hidden(const xmlChar **atts)
{
    const char *aria = attribute(atts, "aria-hidden");
    return attribute(atts, "hidden") || (aria && strcmp(aria, "true") == 0) ||
           style_hides(attribute(atts, "style"));
}

static bool is_boilerplate(enum tag_kind kind, const xmlChar **atts)
{
    static const char *const roles[] = {"navigation", "contentinfo", "search", "menu", "dialog"};
    const char *role = attribute(atts, "role");
    for (size_t i = 0; role && i < COUNT_OF(roles); i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return kind == TAG_BOILERPLATE;
}

static void open_item(struct page *p)
{
    want_lines(p, 1);
    struct list_level *l = p->nlists && p->nlists <= LISTS_MAX ? &p->lists[p->nlists - 1] : NULL;
    char mark[32] = "- ";
    if (l && l->ordered)
        snprintf(mark, sizeof mark, "%u. ", ++l->items);
    if (!p->link_open) {
        char *href = p->href; /* a link around an item starts behind its mark */
        char kept = href[0];
        href[0] = '\0';
        for (unsigned i = 1; i < p->nlists && i < LISTS_MAX; i++)
            put(p, STR("  "));
        put(p, str_z(mark));
        href[0] = kept;
    }
}

static void open_image(struct page *p, const xmlChar **atts)
{
    const char *alt = attribute(atts, "alt");
    struct str text = alt ? str_trim(str_z(alt)) : STR_NONE;
    if (!text.len)
        return;
    put(p, STR("[image: "));
    put_words(p, str_utf8_take(text, 500));
    put(p, STR("]"));
}

static void open_link(struct page *p, const xmlChar **atts)
{
    const char *href = attribute(atts, "href");
    if (p->link_at || !href || href[0] == '#' || !str_copyz(p->href, HREF_MAX, str_z(href)))
        return;
    p->link_at = p->depth;
}

static void close_link(struct page *p)
{
    if (p->link_open) {
        buf_z(p->t->out, "](");
        buf_z(p->t->out, p->link.url);
        buf_ch(p->t->out, ')');
    }
    p->href[0] = '\0';
    p->link_at = 0;
    p->link_open = false;
}

static void open_tag(struct page *p, enum tag_kind kind, const char *name, const xmlChar **atts)
{
    switch (kind) {
    case TAG_BLOCK: want_lines(p, 1); break;
    case TAG_PARAGRAPH: want_lines(p, 2); break;
    case TAG_HEADING:
        want_lines(p, 2);
        put(p, str_take(STR("######"), (size_t)(name[1] - '0')));
        p->blank = true;
        break;
    case TAG_BREAK: want_lines(p, p->lines < 2 ? p->lines + 1 : 2); break;
    case TAG_LIST:
        want_lines(p, p->nlists ? 1 : 2);
        if (p->nlists < LISTS_MAX)
            p->lists[p->nlists] = (struct list_level){.ordered = name[0] == 'o'};
        p->nlists++;
        break;
    case TAG_ITEM: open_item(p); break;
    case TAG_ROW:
        want_lines(p, 1);
        p->row_started = false;
        break;
    case TAG_CELL:
        if (p->row_started)
            put(p, STR(" |"));
        p->blank = p->row_started;
        p->lines = p->row_started ? 0 : p->lines;
        p->row_started = true;
        break;
    case TAG_PRE:
        if (p->pre_at)
            break;
        want_lines(p, 2);
        put(p, STR("```"));
        p->lines = 1;
        p->pre_at = p->depth;
        break;
    case TAG_CODE:
        if (!p->pre_at)
            put(p, STR("`"));
        break;
    case TAG_LINK: open_link(p, atts); break;
    case TAG_IMAGE: open_image(p, atts); break;
    case TAG_TITLE:
        if (!p->t->title[0])
            p->title_at = p->depth;
        break;
    case TAG_OTHER:
    case TAG_SKIP:
    case TAG_BOILERPLATE: break;
    }
}

static void close_tag(struct page *p, enum tag_kind kind)
{
    switch (kind) {
    case TAG_BLOCK:
    case TAG_ITEM:
    case TAG_ROW: want_lines(p, 1); break;
    case TAG_PARAGRAPH:
    case TAG_HEADING: want_lines(p, 2); break;
    case TAG_LIST:
        p->nlists -= p->nlists > 0;
        want_lines(p, p->nlists ? 1 : 2);
        break;
    case TAG_CODE:
        if (!p->pre_at) {
            p->blank = false;
            p->lines = 0;
            put(p, STR("`"));
        }
        break;
    case TAG_PRE:
        if (p->pre_at != p->depth)
            break;
        p->pre_at = 0;
        p->lines = 1;
        put(p, STR("```"));
        want_lines(p, 2);
        break;
    case TAG_LINK:
        if (p->link_at == p->depth)
            close_link(p);
        break;
    case TAG_TITLE:
        if (p->title_at == p->depth)
            p->title_at = 0;
        break;
    case TAG_BREAK:
    case TAG_CELL:
    case TAG_IMAGE:
    case TAG_OTHER:
    case TAG_SKIP:
    case TAG_BOILERPLATE: break;
    }
}

/* ---- what libxml2 calls ---- */

static void on_start(void *arg, const xmlChar *name, const xmlChar **atts)
{
    struct page *p = arg;
    if (!busy(p))
        return;
    if (++p->depth > DEPTH_MAX) {
        stop(p);
        return;
    }
    if (p->skip_at)
        return;
    enum tag_kind kind = kind_of((const char *)name);
    bool skip = kind == TAG_SKIP || is_hidden(atts) ||
                (!p->thorough && is_boilerplate(kind, atts) && p->depth > 2);
    if (skip)
        p->skip_at = p->depth;
    else
        open_tag(p, kind, (const char *)name, atts);
}

static void on_end(void *arg, const xmlChar *name)
{
    struct page *p = arg;
    if (p->depth == 0 || p->stopped)
        return;
    if (p->skip_at == 0)
        close_tag(p, kind_of((const char *)name));
    else if (p->skip_at == p->depth)
        p->skip_at = 0;
    p->depth--;
}

static void on_text(void *arg, const xmlChar *at, int len)
{
    struct page *p = arg;
    struct str text = str_n((const char *)at, len > 0 ? (size_t)len : 0);
    if (!busy(p) || p->skip_at)
        return;
    if (p->title_at)
        put_title(p, text);
    else if (p->pre_at)
        put_pre(p, text);
    else
        put_words(p, text);
}

static void tidy_title(char *title)
{
    size_t n = 0;
    for (const char *c = title; *c; c++) {
        bool blank = (unsigned char)*c <= ' ';
        if (!blank)
            title[n++] = *c;
        else if (n && title[n - 1] != ' ')
            title[n++] = ' ';
    }
    while (n && title[n - 1] == ' ')
        n--;
    title[n] = '\0';
}

static void silent(void *arg, const char *fmt, ...)
{
    (void)arg;
    (void)fmt;
}

static void read_page(struct str text, struct html_text *t, bool thorough)
{
    struct page p = {.t = t, .thorough = thorough, .start = t->out->len};
    t->cut = false;
    t->title[0] = '\0';
    p.parser = htmlNewParserCtxt();
    if (!p.parser)
        return;
    *p.parser->sax = (xmlSAXHandler){.startElement = on_start,
                                     .endElement = on_end,
                                     .characters = on_text,
                                     .ignorableWhitespace = on_text,
                                     .error = silent,
                                     .warning = silent};
    p.parser->userData = &p;
    const int options =
        HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET | HTML_PARSE_IGNORE_ENC;
    xmlDocPtr doc = htmlCtxtReadMemory(p.parser, text.ptr, (int)text.len, NULL, "UTF-8", options);
    if (doc)
        xmlFreeDoc(doc);
    htmlFreeParserCtxt(p.parser);
    if (p.link_open)
        close_link(&p);
    tidy_title(t->title);
}

void html_to_text(struct str page, struct html_text *t)
{
    size_t start = t->out->len;
    if (page.len == 0 || page.len > INT_MAX)
        return;
    read_page(page, t, false);
    if (t->cut || t->out->len - start >= SPARSE)
        return;
    /* All of it is in what usually is boilerplate. */
    t->out->len = start;
    read_page(page, t, true);
}
