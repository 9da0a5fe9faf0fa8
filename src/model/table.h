/* table: the models that are known: limits, default effort, prices. Internal to model/.
 *
 * The built-in table is generated from data/models.yaml at build time and costs nothing at start;
 * an operator's file is read with libfyaml into the table's arena. Immutable once made; loop
 * thread.
 */
#ifndef OSTLER_MODEL_TABLE_H
#define OSTLER_MODEL_TABLE_H

#include "model/model.h"
#include "base/arena.h"

struct model_alias {
    struct str id;
    size_t index; /* into infos */
};

struct model_table {
    const struct model_info *infos;
    size_t ninfos;
    const struct model_alias *aliases;
    size_t naliases;
    const char *default_id;
    struct arena arena; /* of a table read from a file */
};

enum { MODEL_TABLE_MAX = 256 }; /* entries; as many aliases */

/* Generated. */
extern const struct model_table model_table_builtin;

/* Parses YAML text. INVALID with `at` = the pointer of the entry at fault
 * ("/models/3/price/input"). On success the table is freed with model_table_fini. */
int model_table_parse(struct str yaml, struct model_table *out, struct err *err) MUST_USE;
int model_table_load(const char *path, struct model_table *out, struct err *err) MUST_USE;
void model_table_fini(struct model_table *t); /* harmless on a copy of the built-in one */
/* By id or alias; NULL when nothing names it. */
const struct model_info *model_table_find(const struct model_table *t, struct str id);

/* What is known of a model before it is asked: the dearest of its prices. */
void model_facts_of(const struct model_info *info, struct model_facts *out);

/* "12.5" dollars: 12500000. At most six decimals and 10^6 dollars; no sign, no exponent. */
bool model_dollars(struct str text, int64_t *microusd);
/* Fills usage->cost_microusd and usage->unpriced; `info` NULL: no price is known. */
void model_price_of(const struct model_info *info, struct model_usage *usage);

#endif
