#include "core/rubric_lint.h"

#include "core/rubric_words.h"

const char *const rubric_problems[5] = {"vague", "no_observable", "two_in_one", "empty",
                                        "duplicate"};

/* ---- vague words ---- */

/* What takes the vagueness away: nothing; a number; an exact thing or a statement of contents. */
enum kind { HARD, DEGREE, SOFT };

static const char seen[] = "say what one would see in the files, or in a command's output, if it "
                           "were so";
static const char number[] = "give a number and how it is measured, such as: answers within 200 ms";
static const char rule[] = "name the rule, or the command that decides: a linter, a formatter, a "
                           "longest function in lines";
static const char cases[] = "name the cases, and what happens in each";
static const char list[] = "name all that are meant";
static const char content[] = "say what must be in it";
static const char user[] = "say what a user does, and what appears then";
static const char when[] = "say when it is required, or drop it";

static const struct vague {
    const char *phrases; /* between commas */
    enum kind kind;
    const char *advice;
    const char *next, *before, *beside; /* words that excuse it: behind, in front, anywhere */
} vague[] = {
    {"good", HARD, seen, "", "known", ""},
    {"nice,nicely,great,excellent,decent,awesome,amazing,perfect,perfectly,impressive,high "
     "quality,top quality,good quality,code quality,world class,state of the art,professional,"
     "professionally,polished,beautiful,beautifully,attractive,visually appealing,modern,"
     "compelling,engaging,production ready,production quality,enterprise grade,well written,well "
     "structured,well organized,well organised,well designed,well documented,well formatted,well "
     "crafted,well thought,makes sense,make sense,looks right,appropriate,appropriately,properly,"
     "suitable,suitably,adequate,adequately,reasonable,reasonably,acceptable,acceptably,sensible,"
     "sensibly,satisfactory,flexible",
     HARD, seen, "", "", ""},
    {"proper", HARD, seen, "noun nouns subset name names", "", ""},
    {"best practice,best practices,industry standard,industry standards,maintainable,elegant,"
     "elegantly,idiomatic,well commented",
     HARD, rule, "", "", ""},
    {"clean", HARD, rule,
     "checkout clone build builds install exit shutdown working tree worktree repository "
     "environment machine state up database target directory run copy container virtualenv venv "
     "rebuild",
     "make", "git tree checkout worktree"},
    {"robust,robustly,reliable,reliably,resilient,bulletproof,well tested,works well,work well,"
     "works correctly,works properly,as expected,as intended",
     HARD, cases, "by", "", ""},
    {"user friendly,intuitive,intuitively,seamless,seamlessly,smooth,smoothly,easy to use,easy to "
     "read,easy to understand,easy to follow,easy to maintain,easy to extend",
     HARD, user, "", "", ""},
    {"etc,and so on,and so forth,various,numerous", HARD, list, "", "", ""},
    {"and/or,if possible,where possible,when possible,as much as possible,as far as possible,if "
     "necessary,where necessary,when necessary,as necessary,as needed,if applicable,where "
     "applicable",
     HARD, when, "", "", ""},
    {"fast", DEGREE, number, "forward", "", ""},
    {"quick", DEGREE, number, "start", "", ""},
    {"quickly,efficient,efficiently,performant,scalable,lightweight,optimal,optimally,low latency,"
     "high performance,sufficient,sufficiently,enough",
     DEGREE, number, "", "", ""},
    {"gracefully,edge cases,corner cases,edge case,all errors,secure,securely,safely", SOFT, cases,
     "", "", ""},
    {"graceful", SOFT, cases, "shutdown", "", ""},
    {"readable", SOFT, rule, "by", "machine world", ""},
    {"clear,clearly,detailed,comprehensive,comprehensively,thorough,thoroughly,extensive,"
     "extensively,in depth,meaningful,helpful,useful,concise,succinct,informative,insightful,"
     "coherent,simple,descriptive",
     SOFT, content, "", "", ""},
};

struct criterion_words {
    struct str text;
    struct rubric_word *list;
    size_t n;
};

struct lint {
    struct rubric_finding *list;
    size_t n;
};

static void report(struct lint *l, struct rubric_finding f)
{
    if (l->n < RUBRIC_FINDINGS_MAX)
        l->list[l->n++] = f;
}

static struct str span(const struct criterion_words *c, size_t from, size_t to)
{
    const char *begin = c->list[from].text.ptr;
    struct str last = c->list[to].text;
    return str_n(begin, (size_t)(last.ptr + last.len - begin));
}

/* The number of words of the phrase when it stands at `i`; else 0. */
static size_t phrase_at(const struct criterion_words *c, size_t i, struct str phrase)
{
    size_t n = 0;
    while (str_some(phrase)) {
        struct str word = str_split(&phrase, ' ');
        if (i + n >= c->n || !str_eqz(word, c->list[i + n].low))
            return 0;
        n++;
    }
    return n;
}

static bool excused(const struct criterion_words *c, const struct vague *v, size_t i, size_t len)
{
    for (size_t k = 0; k < c->n; k++) {
        if (rubric_in(v->beside, c->list[k].low))
            return true;
    }
    if (i + len < c->n && rubric_in(v->next, c->list[i + len].low))
        return true;
    if (i > 0 && rubric_in(v->before, c->list[i - 1].low))
        return true;
    if (v->kind == DEGREE)
        return rubric_measured(c->list, c->n);
    return v->kind == SOFT && rubric_exact(c->list, c->n);
}

/* Each entry once: "good ..., good ..." is one mistake. Longer phrases win over their words. */
static bool find_vague(struct lint *l, const struct criterion_words *c, size_t number_of)
{
    size_t before = l->n;
    for (size_t i = 0; i < c->n;) {
        const struct vague *found = NULL;
        size_t len = 0;
        for (size_t v = 0; v < COUNT_OF(vague); v++) {
            struct str rest = str_z(vague[v].phrases);
            while (str_some(rest)) {
                size_t words = phrase_at(c, i, str_split(&rest, ','));
                if (words > len && !excused(c, &vague[v], i, words)) {
                    found = &vague[v];
                    len = words;
                }
            }
        }
        if (found)
            report(l, (struct rubric_finding){.problem = RUBRIC_VAGUE,
                                              .criterion = number_of,
                                              .words = span(c, i, i + len - 1),
                                              .advice = found->advice});
        i += len ? len : 1;
    }
    return l->n > before;
}

/* ---- two in one ---- */

/* The verb of a second demand that begins at `j`, when the words from `start` to `end` make a first
 * one; 0: there is none. */
static size_t second_demand(const struct criterion_words *c, size_t start, size_t end, size_t j)
{
    enum { SUBJECT_WORDS = 7 };
    const struct rubric_word *w = c->list;
    enum rubric_verb first = VERB_NONE, verb;
    for (size_t i = start; i < end; i++) {
        if (rubric_subordinates(w, c->n, i))
            return 0;
        verb = rubric_verb_at(w, c->n, i);
        first = verb ? verb : first;
    }
    while (j < c->n && rubric_in("also then always still", w[j].low))
        j++;
    if (j >= c->n)
        return 0;
    if (start < end && rubric_imperative(w, c->n, start) && rubric_imperative(w, c->n, j))
        return j;
    if (!first)
        return 0;
    verb = rubric_verb_at(w, c->n, j);
    if (verb) /* of the same subject */
        return verb == VERB_RUNTIME && first == VERB_RUNTIME ? 0 : j;
    for (size_t k = j; k + 1 < c->n && k < j + SUBJECT_WORDS; k++) {
        if (w[k].comma || w[k].stop || w[k].semicolon || rubric_subordinates(w, c->n, k) ||
            rubric_in("and or to", w[k].low))
            return 0;
        if (!rubric_subordinates(w, c->n, k + 1) && rubric_verb_at(w, c->n, k + 1))
            return k + 1;
    }
    return 0;
}

static bool is_addition(const struct criterion_words *c, size_t i)
{
    return rubric_in("also additionally furthermore moreover", c->list[i].low) ||
           phrase_at(c, i, STR("in addition"));
}

static void find_two(struct lint *l, const struct criterion_words *c, size_t number_of)
{
    size_t start = 0;
    for (size_t i = 0; i < c->n; i++) {
        bool joint = strcmp(c->list[i].low, "and") == 0 && i > start;
        size_t at = joint || c->list[i].semicolon ? second_demand(c, start, i + !joint, i + 1) : 0;
        bool added = i > 0 && c->list[i - 1].stop && is_addition(c, i);
        if (at || added) {
            size_t from = joint || added ? i : i + 1;
            size_t to = at > from ? at : from;
            report(l, (struct rubric_finding){
                          .problem = RUBRIC_TWO_IN_ONE,
                          .criterion = number_of,
                          .words = span(c, from, to + 1 < c->n ? to + 1 : to),
                          .advice = "make two criteria of it: there is one verdict for both"});
            return;
        }
        if (c->list[i].stop)
            start = i + 1;
    }
}

/* ---- empties and duplicates ---- */

static bool is_empty(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))
            return false;
    }
    return true;
}

/* Marks of a list with nothing behind them. */
static void find_bare_marks(struct lint *l, struct str text)
{
    while (str_some(text)) {
        struct str line = str_trim(str_split(&text, '\n')), rest = line;
        while (rest.len && rest.ptr[0] >= '0' && rest.ptr[0] <= '9')
            rest = str_skip(rest, 1);
        bool numbered = rest.len < line.len && (str_eqz(rest, ".") || str_eqz(rest, ")"));
        if (numbered || str_eqz(line, "-") || str_eqz(line, "*") || str_eqz(line, "+"))
            report(l, (struct rubric_finding){.problem = RUBRIC_EMPTY,
                                              .criterion = RUBRIC_NO_CRITERION,
                                              .words = line,
                                              .advice = "write the criterion, or remove the mark"});
    }
}

static bool same_word(const struct rubric_word *a, const struct rubric_word *b)
{
    return a->low[0] && b->low[0] ? strcmp(a->low, b->low) == 0 : str_eq(a->text, b->text);
}

static size_t skip_articles(const struct criterion_words *c, size_t i)
{
    while (i < c->n && rubric_in("the a an", c->list[i].low))
        i++;
    return i;
}

static bool same(const struct criterion_words *a, const struct criterion_words *b)
{
    size_t i = skip_articles(a, 0), j = skip_articles(b, 0);
    bool any = false;
    while (i < a->n && j < b->n) {
        if (!same_word(&a->list[i], &b->list[j]))
            return false;
        any = true;
        i = skip_articles(a, i + 1);
        j = skip_articles(b, j + 1);
    }
    return any && i == a->n && j == b->n;
}

/* ---- all of it ---- */

static void lint_one(struct lint *l, const struct criterion_words *all, size_t i)
{
    const struct criterion_words *c = &all[i];
    if (is_empty(c->text)) {
        report(l, (struct rubric_finding){.problem = RUBRIC_EMPTY,
                                          .criterion = i,
                                          .words = c->text,
                                          .advice = "write the criterion, or remove it"});
        return;
    }
    bool is_vague = find_vague(l, c, i);
    if (!is_vague && rubric_english(c->list, c->n) && !rubric_observable(c->list, c->n))
        report(l, (struct rubric_finding){.problem = RUBRIC_NO_OBSERVABLE,
                                          .criterion = i,
                                          .words = c->text,
                                          .advice = "name what one can look at or run: a file, a "
                                                    "command and its output, a number, a "
                                                    "behaviour"});
    find_two(l, c, i);
    for (size_t k = 0; k < i; k++)
        if (same(&all[k], c)) {
            report(l, (struct rubric_finding){.problem = RUBRIC_DUPLICATE,
                                              .criterion = i,
                                              .other = k,
                                              .words = c->text,
                                              .advice = "remove one of the two"});
            break;
        }
}

int rubric_lint(struct arena *a, struct str text, const struct str *criteria, size_t n,
                struct rubric_finding **out, size_t *nout, struct err *err)
{
    struct lint l = {.list = ARENA_ARRAY(a, struct rubric_finding, RUBRIC_FINDINGS_MAX)};
    struct criterion_words *all = ARENA_ARRAY(a, struct criterion_words, n + 1);
    struct rubric_word *scratch = ARENA_ARRAY(a, struct rubric_word, RUBRIC_WORDS_MAX);
    for (size_t i = 0; all && scratch && i < n; i++) {
        all[i] = (struct criterion_words){.text = criteria[i]};
        all[i].n = rubric_words(criteria[i], scratch);
        all[i].list = ARENA_ARRAY(a, struct rubric_word, all[i].n + 1);
        if (all[i].list && all[i].n)
            memcpy(all[i].list, scratch, all[i].n * sizeof *scratch);
    }
    if (a->failed || !l.list || !all || !scratch)
        return err_set(err, ERR_LIMIT, "the rubric is too large");
    for (size_t i = 0; i < n; i++)
        lint_one(&l, all, i);
    find_bare_marks(&l, text);
    *out = l.list;
    *nout = l.n;
    return 0;
}
