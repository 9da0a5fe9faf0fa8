/* script: the scripted provider: model ids script/NAME, answered by a Lua file. Internal to model/.
 *
 * Loop thread. The answer is computed in one go when the call starts running (bounded: see
 * script_run.h) and then handed out in pieces, with timers where the script asks for delays. A file
 * NAME.lua of script_dir hides a built-in script of that name and is read for each request.
 */
#ifndef OSTLER_MODEL_SCRIPT_H
#define OSTLER_MODEL_SCRIPT_H

#include "base/arena.h"
#include "core/ports.h"
#include "io/loop.h"

struct script_builtin {
    struct str name, text;
};

/* Generated from scripts/. */
extern const struct script_builtin script_builtins[];
extern const size_t script_nbuiltins;

struct script_provider {
    struct loop *loop;
    char *dir; /* NULL: only the built-in ones */
};

/* INVALID when there is no such script; `name` is the id without "script/". */
int script_check(const struct script_provider *p, struct str name, struct err *err) MUST_USE;
/* "script/NAME" of all there are, sorted: of those built in and the files of `dir`. */
size_t script_list(const struct script_provider *p, struct arena *a, struct str **out);

enum { SCRIPT_CONTEXT_TOKENS = 200000, SCRIPT_OUTPUT_TOKENS = 32000 };
/* Of a script's model; all zero when there is none of the name. */
void script_facts(const struct script_provider *p, struct str name, struct model_facts *out);
/* The same from the script's text (script_facts.c). INVALID when its first line is wrong. */
int script_facts_read(struct str source, struct model_facts *out, struct err *err) MUST_USE;
/* What a script's usage says of the prompt unless the script says otherwise: a token for four
 * bytes. */
int64_t script_prompt_tokens(const struct model_request *req);
/* Fills usage->cost_microusd by the prices that the script states: 0 by default. */
void script_price(const struct model_facts *f, struct model_usage *usage);

struct model_call *script_start(struct script_provider *p, const struct model_request *req,
                                const struct model_callbacks *cb, void *arg);

#endif
