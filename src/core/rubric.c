#include "core/rubric.h"

enum { OPENING_MAX = 120 };

struct line {
    struct str text; /* behind the mark, or the whole line */
    size_t indent;
    bool item, heading, blank;
};

static size_t digits(struct str s)
{
    size_t n = 0;
    while (n < s.len && n < 4 && s.ptr[n] >= '0' && s.ptr[n] <= '9')
        n++;
    return n;
}

/* "- ", "* ", "+ ", "1. ", "2) ", with a check box behind it or without. */
static size_t mark_len(struct str s)
{
    size_t n = digits(s);
    if (n > 0 && s.len > n + 1 && (s.ptr[n] == '.' || s.ptr[n] == ')') && s.ptr[n + 1] == ' ')
        n += 2;
    else if (s.len > 1 && (s.ptr[0] == '-' || s.ptr[0] == '*' || s.ptr[0] == '+') &&
             s.ptr[1] == ' ')
        n = 2;
    else
        return 0;
    struct str rest = str_skip(s, n);
    bool box = rest.len > 3 && rest.ptr[0] == '[' && rest.ptr[2] == ']' && rest.ptr[3] == ' ';
    return n + (box ? 4 : 0);
}

static struct line read_line(struct str s)
{
    struct line l = {.indent = 0};
    if (s.len && s.ptr[s.len - 1] == '\r')
        s.len--;
    while (l.indent < s.len && (s.ptr[l.indent] == ' ' || s.ptr[l.indent] == '\t'))
        l.indent++;
    struct str body = str_trim(s);
    size_t mark = mark_len(body);
    l.blank = body.len == 0;
    l.heading = body.len > 0 && body.ptr[0] == '#';
    l.item = mark > 0;
    l.text = str_trim(str_skip(body, mark));
    return l;
}

static bool next_line(struct str *rest, struct line *out)
{
    if (!str_some(*rest))
        return false;
    *out = read_line(str_split(rest, '\n'));
    return true;
}

static bool has_items(struct str text)
{
    struct line l;
    while (next_line(&text, &l))
        if (l.item)
            return true;
    return false;
}

struct found {
    struct str *list;
    size_t *indents;
    size_t n;
    bool open; /* the next lines go on with the last one */
};

static void add(struct found *f, const struct line *l)
{
    f->list[f->n] = l->text;
    f->indents[f->n++] = l->indent;
    f->open = true;
}

/* Up to the end of this line: all are views into one text. */
static void extend(struct found *f, const struct line *l)
{
    struct str *last = &f->list[f->n - 1];
    last->len = (size_t)(l->text.ptr + l->text.len - last->ptr);
}

/* "Tests:" above a nested list is its title. */
static void drop_title(struct found *f, size_t indent)
{
    if (f->n && indent > f->indents[f->n - 1] && str_ends(f->list[f->n - 1], STR(":")))
        f->n--;
}

static void take(struct found *f, const struct line *l, bool items)
{
    if (l->blank || l->heading) {
        f->open = f->open && items && !l->heading && f->n > 0; /* an item may have paragraphs */
        return;
    }
    bool fresh = items ? l->item : !f->open;
    bool belongs = items && !l->item && f->n > 0 && f->open && l->indent > f->indents[f->n - 1];
    if (fresh && f->n < RUBRIC_CRITERIA_MAX) {
        if (items)
            drop_title(f, l->indent);
        add(f, l);
    } else if (f->n > 0 && (fresh || belongs || !items)) {
        extend(f, l);
    } else if (items && !l->item) {
        f->open = false; /* text between lists */
    }
}

int rubric_criteria(struct arena *a, struct str text, struct str **out, size_t *n, struct err *err)
{
    struct found f = {.list = ARENA_ARRAY(a, struct str, RUBRIC_CRITERIA_MAX + 1),
                      .indents = ARENA_ARRAY(a, size_t, RUBRIC_CRITERIA_MAX + 1)};
    if (!f.list || !f.indents)
        return err_set(err, ERR_LIMIT, "the rubric is too large");
    bool items = has_items(text);
    struct str rest = text;
    struct line l;
    while (next_line(&rest, &l))
        take(&f, &l, items);
    if (f.n == 0)
        f.list[f.n++] = str_trim(text);
    *out = f.list;
    *n = f.n;
    return 0;
}

struct str rubric_opening(struct str criterion)
{
    struct str line = str_trim(str_split(&criterion, '\n'));
    if (line.len <= OPENING_MAX)
        return line;
    line = str_utf8_take(line, OPENING_MAX);
    size_t n = line.len;
    while (n > OPENING_MAX / 2 && line.ptr[n - 1] != ' ')
        n--;
    return n > OPENING_MAX / 2 ? str_trim(str_take(line, n)) : line;
}
