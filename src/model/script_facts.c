/* What a script says of the model it plays, in its first line, so that nothing must run to know it:
 *
 *     --model: context=4000 max_output=500 input=3 output=15
 */
#include "model/script.h"
#include "model/table.h"

static const struct str mark = {"--model:", 8};

static int bad(struct err *err, struct str word)
{
    return err_set(err, ERR_INVALID,
                   "the line --model: cannot hold '" STR_FMT
                   "'; it may hold context=TOKENS, max_output=TOKENS, input=DOLLARS, "
                   "output=DOLLARS, system_messages=no, counts_tokens=no",
                   STR_ARG(str_utf8_take(word, 40)));
}

static int read_word(struct str word, struct model_facts *f, struct err *err)
{
    struct str value = word, name = str_split(&value, '=');
    if (!str_some(value))
        return bad(err, word);
    bool ok = str_eqz(value, "no");
    if (str_eqz(name, "context"))
        ok = str_i64(value, &f->context_tokens) && f->context_tokens > 0;
    else if (str_eqz(name, "max_output"))
        ok = str_i64(value, &f->max_output_tokens) && f->max_output_tokens > 0;
    else if (str_eqz(name, "input"))
        ok = model_dollars(value, &f->input_price);
    else if (str_eqz(name, "output"))
        ok = model_dollars(value, &f->output_price);
    else if (str_eqz(name, "system_messages"))
        f->system_messages = false;
    else if (str_eqz(name, "counts_tokens"))
        f->counts_tokens = false;
    else
        ok = false;
    return ok ? 0 : bad(err, word);
}

int script_facts_read(struct str source, struct model_facts *out, struct err *err)
{
    *out = (struct model_facts){.context_tokens = SCRIPT_CONTEXT_TOKENS,
                                .max_output_tokens = SCRIPT_OUTPUT_TOKENS,
                                .priced = true,
                                .system_messages = true,
                                .counts_tokens = true};
    if (!str_starts(source, mark))
        return 0;
    struct str rest = str_skip(source, mark.len), line = str_trim(str_split(&rest, '\n'));
    while (str_some(line)) {
        struct str word = str_split(&line, ' ');
        int rc = word.len ? read_word(word, out, err) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

int64_t script_prompt_tokens(const struct model_request *req)
{
    return (int64_t)(req->system.len + req->tools.len + req->messages.len + 3) / 4;
}

void script_price(const struct model_facts *f, struct model_usage *usage)
{
    const struct model_info info = {.priced = true,
                                    .input = f->input_price,
                                    .output = f->output_price,
                                    .cache_write_5m = f->input_price,
                                    .cache_write_1h = f->input_price,
                                    .cache_read = f->input_price};
    model_price_of(&info, usage);
}
