#include "core/rubric_words.h"

/* ---- reading ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool rubric_in(const char *set, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = set; len && (at = strstr(at, word)); at += len)
        if ((at == set || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' '))
            return true;
    return false;
}

/* The length of `code`, "quotation" or typographic quotation that begins here; 0: none. */
static size_t quoted_len(struct str s)
{
    static const struct {
        const char *open, *close;
    } pairs[] = {
        {"`", "`"}, {"\"", "\""}, {"\xe2\x80\x9c", "\xe2\x80\x9d"}, {"\xc2\xab", "\xc2\xbb"}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct str open = str_z(pairs[i].open), close = str_z(pairs[i].close);
        if (!str_starts(s, open))
            continue;
        ptrdiff_t at = str_find(str_skip(s, open.len), close);
        return at > 0 ? open.len + (size_t)at + close.len : 0;
    }
    return 0;
}

static bool is_example(const char *low)
{
    return rubric_in("e.g i.e etc cf vs and/or", low);
}

/* An exact thing: a number, a path, a file's name, an identifier, a flag, a call. */
static bool is_strong(struct str s, const char *low)
{
    if (str_starts(s, STR("--")) || (s.len > 1 && (s.ptr[0] == '/' || s.ptr[0] == '~')))
        return true;
    if (str_find(s, STR("://")) >= 0 || str_find(s, STR("()")) >= 0)
        return true;
    for (size_t i = 0; i < s.len; i++) {
        bool inside = i > 0 && i + 1 < s.len;
        if (is_digit(s.ptr[i]) || (inside && s.ptr[i] == '_'))
            return true;
        if (inside && s.ptr[i] == '.' && is_letter(s.ptr[i + 1]) && !is_example(low))
            return true;
        if (i > 0 && is_upper(s.ptr[i]) && !is_upper(s.ptr[0]) && is_letter(s.ptr[0]))
            return true; /* camelCase */
    }
    return false;
}

/* In capitals, but not for emphasis; or with capitals inside. */
static bool is_named(struct str s, const char *low)
{
    size_t capitals = 0;
    for (size_t i = 0; i < s.len; i++)
        capitals += is_upper(s.ptr[i]);
    return capitals >= 2 && !rubric_in("must should shall not all and or is no only never every "
                                       "ui ux may will the any be",
                                       low);
}

static void lower(struct str s, char out[RUBRIC_WORD_LEN])
{
    if (str_ends(s, STR("'s")))
        s.len -= 2;
    if (!str_copyz(out, RUBRIC_WORD_LEN, s))
        return;
    for (char *c = out; *c; c++)
        if (is_upper(*c))
            *c = (char)(*c - 'A' + 'a');
}

static struct rubric_word *add(struct rubric_word *out, size_t *n, struct str text)
{
    if (*n == RUBRIC_WORDS_MAX)
        return NULL;
    struct rubric_word *w = &out[(*n)++];
    *w = (struct rubric_word){.text = text};
    return w;
}

static void add_plain(struct rubric_word *out, size_t *n, struct str s)
{
    char low[RUBRIC_WORD_LEN] = "";
    lower(s, low);
    bool strong = is_strong(s, low), named = is_named(s, low);
    while (!strong && !named && str_some(s)) { /* "well-written" is two words */
        struct str part = str_split(&s, '-');
        struct rubric_word *w = part.len ? add(out, n, part) : NULL;
        if (w)
            lower(part, w->low);
    }
    struct rubric_word *w = str_some(s) ? add(out, n, s) : NULL;
    if (w) {
        w->strong = strong;
        w->named = named;
        memcpy(w->low, low, sizeof low);
    }
}

static void add_punctuation(struct rubric_word *last, struct str s)
{
    for (size_t i = 0; last && i < s.len; i++) {
        last->comma |= s.ptr[i] == ',' || s.ptr[i] == ':' || s.ptr[i] == '(' || s.ptr[i] == ')';
        last->semicolon |= s.ptr[i] == ';';
        last->stop |= s.ptr[i] == '.' || s.ptr[i] == '!' || s.ptr[i] == '?';
    }
}

static bool is_edge(char c, bool front)
{
    return c && strchr(front ? "([{*_'<\"`" : ".,;:!?)]}*_'>\"`", c) != NULL;
}

size_t rubric_words(struct str s, struct rubric_word *out)
{
    size_t n = 0;
    while (s.len) {
        size_t len = 0, quoted;
        while (s.len && (is_blank(*s.ptr) || (is_edge(*s.ptr, true) && !quoted_len(s))))
            s = str_skip(s, 1);
        if ((quoted = quoted_len(s)) > 0) {
            struct rubric_word *w = add(out, &n, str_take(s, quoted));
            if (w)
                w->strong = true;
            s = str_skip(s, quoted);
            while (len < s.len && !is_blank(s.ptr[len]) && is_edge(s.ptr[len], false))
                len++;
            add_punctuation(w, str_take(s, len));
            s = str_skip(s, len);
            continue;
        }
        while (len < s.len && !is_blank(s.ptr[len]) && !quoted_len(str_skip(s, len)))
            len++;
        size_t end = len;
        bool call = len > 2 && str_ends(str_take(s, len), STR("()"));
        while (end && is_edge(s.ptr[end - 1], false) && !call)
            end--;
        if (end)
            add_plain(out, &n, str_take(s, end));
        add_punctuation(n ? &out[n - 1] : NULL, str_skip(str_take(s, len), end));
        s = str_skip(s, len);
    }
    return n;
}

/* ---- what words are ---- */

/* One run of a program shows them together, so that "exits with 1 and prints the name" is one
 * demand. */
static const char runtime[] =
    "exits prints returns raises throws writes logs sends responds displays shows creates saves "
    "deletes removes reads opens closes ignores rejects refuses accepts validates parses stops "
    "starts ends loads redirects renders sorts produces generates fails keeps leaves adds stores "
    "updates calls reports outputs emits receives connects disconnects retries skips moves copies "
    "clears resets trims splits joins converts answers asks checks detects crashes";

static const char states[] =
    "contains includes exists exist passes pass fail compiles compile explains describes mentions "
    "cites equals remains appears succeeds succeed works work handles supports follows uses "
    "provides allows prevents defines declares identifies recommends compares discusses applies "
    "agrees satisfies consists describe contain include explain";

/* Also nouns. */
static const char ambiguous[] =
    "tests lists names links reports shows logs prints results documents covers builds imports "
    "exports matches runs references states counts sums changes calls updates installs returns "
    "outputs copies answers checks";

static const char being[] = "is are was were has have had isn't aren't hasn't haven't";
static const char modal[] = "must should shall can will may does do cannot can't doesn't don't";
static const char adverb[] = "not never also only then always still both it";
static const char determiner[] =
    "the a an all every each no any its their this these one two three four five exactly at only "
    "that how why not nothing less more what which without with";

static const char observing[] =
    "contains include includes lists prints returns exits exists passes pass fails compiles builds "
    "raises throws names mentions cites links states starts ends accepts rejects refuses responds "
    "shows displays writes creates saves logs sorts matches equals renders loads redirects "
    "validates runs installs parses opens sends deletes removes keeps remains appears counts sums "
    "defines declares exports imports documents explains describes covers compares answers "
    "identifies recommends says quotes ignores produces generates stores reads closes compile "
    "build exit return print raise respond display contain explain describe mention cite list "
    "reject refuse accept reports calls uses use added removed renamed deleted sorted documented "
    "listed named printed returned rejected refused written imported exported installed logged "
    "cited linked quoted unchanged";

static const char things[] =
    "file files directory directories folder test tests output outputs stdout stderr exit error "
    "errors exception exceptions message messages log logs line lines command commands script "
    "scripts function functions class classes method methods table tables column columns row rows "
    "cell cells section sections heading headings title chapter paragraph paragraphs sentence "
    "sentences word words page pages link links image images chart charts graph list lists example "
    "examples comment comments docstring docstrings field fields key keys value values header "
    "headers footer status response responses request requests endpoint endpoints route routes url "
    "urls button buttons form input inputs config flag flags option options argument arguments "
    "parameter parameters version license changelog commit commits patch diff branch build warning "
    "warnings package packages dependency dependencies import imports schema database query "
    "queries migration date dates number numbers total totals sum average percentage percent name "
    "names id ids email emails source sources citation citations reference references screenshot "
    "variable variables constant password passwords token tokens secret secrets cache bytes "
    "characters seconds minutes record records entry entries item items step steps linter compiler "
    "formatter slide slides appendix abstract bullet bullets question questions answer answers "
    "price prices currency unit units timestamp timestamps duplicate duplicates typo typos "
    "placeholder placeholders attribute attributes icon icons menu dialog label labels property "
    "properties template templates makefile dockerfile readme";

static const char numbers[] =
    "zero two three four five six seven eight nine ten twelve dozen hundred thousand half twice";

static const char content_verbs[] =
    "names lists contains includes mentions states cites says explains describes quotes identifies "
    "name contain include mention cite quote naming listing containing saying stating";

static const char english[] =
    "the is are a an of to in and it has have be with for must should that this not all works "
    "code everything everyone on as by from no every each users user does do was can will there "
    "looks feels makes its their good";

static bool any_in(const struct rubric_word *w, size_t n, const char *set)
{
    for (size_t i = 0; i < n; i++)
        if (rubric_in(set, w[i].low))
            return true;
    return false;
}

static bool any_strong(const struct rubric_word *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (w[i].strong)
            return true;
    return any_in(w, n, numbers);
}

/* A capital inside of a sentence: the sheet Summary. */
static bool is_name(const struct rubric_word *w, size_t i)
{
    struct str s = w[i].text;
    return i > 0 && !w[i - 1].stop && s.len > 1 && is_upper(s.ptr[0]) && !is_upper(s.ptr[1]);
}

bool rubric_observable(const struct rubric_word *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (w[i].named || is_name(w, i))
            return true;
    return any_strong(w, n) || any_in(w, n, observing) || any_in(w, n, things);
}

bool rubric_english(const struct rubric_word *w, size_t n)
{
    return any_in(w, n, english);
}

bool rubric_measured(const struct rubric_word *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < w[i].text.len; k++)
            if (is_digit(w[i].text.ptr[k]))
                return true;
    return any_in(w, n, numbers);
}

bool rubric_exact(const struct rubric_word *w, size_t n)
{
    return any_strong(w, n) || any_in(w, n, content_verbs);
}

/* "print" for "prints". */
static bool in_base_form(const char *set, const char *word)
{
    char with_s[RUBRIC_WORD_LEN + 2];
    size_t len = strlen(word);
    memcpy(with_s, word, len);
    memcpy(with_s + len, "s", 2);
    return len && (rubric_in(set, word) || rubric_in(set, with_s));
}

enum rubric_verb rubric_verb_at(const struct rubric_word *w, size_t n, size_t i)
{
    const char *low = w[i].low;
    if (rubric_in(modal, low)) {
        size_t j = i + 1;
        bool denied = str_ends(str_z(low), STR("n't")) || strcmp(low, "cannot") == 0;
        for (; j < n && rubric_in(adverb, w[j].low); j++)
            denied |= strcmp(w[j].low, "not") == 0;
        bool does = low[0] == 'd';
        if (does && denied)
            return VERB_RUNTIME;
        return j < n && in_base_form(runtime, w[j].low) ? VERB_RUNTIME : VERB_STATE;
    }
    if (rubric_in(being, low))
        return i > 0 && strcmp(w[i - 1].low, "as") == 0 ? VERB_NONE : VERB_STATE;
    if (rubric_in(ambiguous, low)) {
        bool open = !w[i].comma && !w[i].stop && !w[i].semicolon && i + 1 < n;
        if (!open || !(w[i + 1].strong || rubric_in(determiner, w[i + 1].low)))
            return VERB_NONE;
        return rubric_in(runtime, low) ? VERB_RUNTIME : VERB_STATE;
    }
    return rubric_in(runtime, low) ? VERB_RUNTIME : rubric_in(states, low) ? VERB_STATE : VERB_NONE;
}

bool rubric_subordinates(const struct rubric_word *w, size_t n, size_t i)
{
    if (!rubric_in("when if where that which who whose because while after before until unless why "
                   "how what whether once so whenever since like given",
                   w[i].low))
        return false;
    return i + 1 >= n || strcmp(w[i + 1].low, "to") != 0; /* "how to install" is no clause */
}

bool rubric_imperative(const struct rubric_word *w, size_t n, size_t i)
{
    return rubric_in("add update write create remove run compile include provide document explain "
                     "list use fix implement ensure make test delete rename replace install build "
                     "check verify describe keep",
                     w[i].low) &&
           i + 1 < n && (w[i + 1].strong || rubric_in(determiner, w[i + 1].low) || i == 0);
}
