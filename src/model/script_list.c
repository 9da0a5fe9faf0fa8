/* The names of all scripts: those built in and the files of script_dir. */
#include "model/script.h"

#include <dirent.h>
#include <stdlib.h>

enum { SCRIPTS_MAX = 1000 };

struct names {
    struct arena *a;
    struct str *all;
    size_t n;
};

static void add(struct names *s, struct str name)
{
    for (size_t i = 0; i < s->n; i++)
        if (str_eq(str_skip(s->all[i], sizeof "script/" - 1), name))
            return;
    struct str id = arena_printf(s->a, "script/" STR_FMT, STR_ARG(name));
    if (str_some(id) && s->n < SCRIPTS_MAX)
        s->all[s->n++] = id;
}

static void add_files(struct names *s, const struct script_provider *p)
{
    DIR *d = p->dir ? opendir(p->dir) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        struct str name = str_z(e->d_name);
        if (!str_ends(name, STR(".lua")))
            continue;
        name = str_take(name, name.len - 4);
        if (script_check(p, name, NULL) == 0)
            add(s, name);
    }
    closedir(d);
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

size_t script_list(const struct script_provider *p, struct arena *a, struct str **out)
{
    struct names s = {.a = a, .all = ARENA_ARRAY(a, struct str, SCRIPTS_MAX)};
    if (!s.all)
        return 0;
    for (size_t i = 0; i < script_nbuiltins; i++)
        add(&s, script_builtins[i].name);
    add_files(&s, p);
    qsort(s.all, s.n, sizeof *s.all, by_name);
    *out = s.all;
    return s.n;
}
