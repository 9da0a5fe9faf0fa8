#include "core/budget.h"

#include "base/arena.h"

enum {
    MEDIA_TOKENS = 8000,           /* of one image or document, beyond its bytes */
    UNKNOWN_OUTPUT_TOKENS = 32000, /* of an answer whose model's maximum nobody knows */
};

static int64_t read_cap(const struct json *limits, const char *name)
{
    int64_t n = 0;
    return json_i64(json_get(limits, name), &n) && n > 0 ? n : 0;
}

void caps_read(struct caps *c, int64_t budget_microusd, struct str limits)
{
    *c = (struct caps){.budget_microusd = budget_microusd > 0 ? budget_microusd : 0};
    if (!limits.len)
        return;
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024);
    const struct json *doc = NULL;
    struct err err;
    if (json_parse(&a, limits, JSON_ALLOW_DUPLICATES, &doc, &err))
        return; /* it was written from checked values */
    c->max_turns = read_cap(doc, "max_turns");
    c->max_tokens = read_cap(doc, "max_tokens");
    c->max_seconds = read_cap(doc, "max_seconds");
    c->max_cost_microusd = read_cap(doc, "max_cost_microusd");
}

/* ---- what is left ---- */

static __int128 spent(const struct session_usage *u)
{
    return (__int128)u->cost_microusd + u->held_microusd;
}

static __int128 tokens_used(const struct session_usage *u)
{
    return (__int128)u->input_tokens + u->output_tokens + u->cache_read_tokens +
           u->cache_write_5m_tokens + u->cache_write_1h_tokens;
}

const char *caps_reached(const struct caps *c, const struct session_usage *u, bool new_turn,
                         int64_t now_us)
{
    if (c->budget_microusd && spent(u) >= c->budget_microusd)
        return "budget";
    if (c->max_turns && new_turn && u->turns >= c->max_turns)
        return "max_turns";
    if (c->max_tokens && tokens_used(u) >= c->max_tokens)
        return "max_tokens";
    if (c->max_seconds && usage_active_seconds(u, now_us) >= (double)c->max_seconds)
        return "max_seconds";
    if (c->max_cost_microusd && spent(u) >= c->max_cost_microusd)
        return "max_cost_microusd";
    return NULL;
}

/* ---- reservation ---- */

/* The room for one request: what is left under each kind of cap, and which one that is. */
struct room {
    const char *money_limit; /* NULL: no money is capped */
    __int128 microusd;
    bool tokens_capped;
    __int128 tokens;
};

static struct room room_left(const struct caps *c, const struct session_usage *u)
{
    struct room r = {0};
    if (c->budget_microusd) {
        r.money_limit = "budget";
        r.microusd = c->budget_microusd - spent(u);
    }
    if (c->max_cost_microusd && (!r.money_limit || c->max_cost_microusd < c->budget_microusd)) {
        r.money_limit = "max_cost_microusd";
        r.microusd = c->max_cost_microusd - spent(u);
    }
    r.tokens_capped = c->max_tokens > 0;
    r.tokens = c->max_tokens - tokens_used(u);
    return r;
}

int64_t caps_money_left(const struct caps *c, const struct session_usage *u)
{
    struct room r = room_left(c, u);
    if (!r.money_limit)
        return -1;
    return r.microusd > 0 ? (int64_t)r.microusd : 0;
}

/* What the prompt has at most. A provider refuses a longer one than its model takes. */
static __int128 prompt_bound(const struct model_facts *f, const struct request_size *size)
{
    if (size->counted > 0)
        return size->counted;
    __int128 bytes = size->bytes;
    __int128 bound =
        (size->counted < 0 ? (bytes + 1) / 2 : bytes) + (__int128)size->media * MEDIA_TOKENS;
    return f->context_tokens > 0 && bound > f->context_tokens ? f->context_tokens : bound;
}

/* Per million tokens and therefore in millionths of a micro-dollar. */
static __int128 price_of(const struct model_facts *f, __int128 prompt, __int128 answer)
{
    return prompt * f->input_price + answer * f->output_price;
}

static __int128 smaller(__int128 a, __int128 b)
{
    return a < b ? a : b;
}

/* The longest answer whose request fits, at most `most`; *limit: the cap that bounds it. Not above
 * zero where nothing fits. */
static __int128 longest_answer(const struct room *r, const struct model_facts *f, __int128 prompt,
                               __int128 most, const char **limit)
{
    __int128 answer = most;
    *limit = NULL;
    if (r->money_limit) {
        __int128 left = r->microusd * 1000000 - price_of(f, prompt, 0);
        __int128 fits = !f->priced || r->microusd <= 0 || left < 0 ? 0
                        : f->output_price > 0                      ? left / f->output_price
                                                                   : most;
        if (fits < answer) {
            answer = fits;
            *limit = r->money_limit;
        }
    }
    if (r->tokens_capped && r->tokens - prompt < answer) {
        answer = r->tokens - prompt;
        *limit = "max_tokens";
    }
    return answer;
}

/* No number of tokens makes it fit: the money or the tokens are spent, or nobody can say what the
 * model costs. */
static bool hopeless(const struct room *r, const struct model_facts *f)
{
    return (r->money_limit && (!f->priced || r->microusd <= 0)) ||
           (r->tokens_capped && r->tokens <= 0);
}

enum reserve budget_reserve(const struct caps *c, const struct session_usage *u,
                            const struct model_facts *f, const struct request_size *size,
                            struct reservation *out)
{
    struct room room = room_left(c, u);
    *out = (struct reservation){0};
    if (!room.money_limit && !room.tokens_capped)
        return RESERVE_OK;
    struct request_size now = *size;
    int64_t most = f->max_output_tokens > 0 ? f->max_output_tokens : UNKNOWN_OUTPUT_TOKENS;
    __int128 least = smaller(most, BUDGET_MIN_ANSWER_TOKENS);
    const char *limit;
    __int128 prompt = prompt_bound(f, &now);
    __int128 answer = longest_answer(&room, f, prompt, most, &limit);
    if (answer < least && now.counted == 0 && !hopeless(&room, f)) {
        if (f->counts_tokens)
            return RESERVE_COUNT;
        now.counted = -1;
        prompt = prompt_bound(f, &now);
        answer = longest_answer(&room, f, prompt, most, &limit);
    }
    if (answer < least) {
        out->limit = limit;
        return RESERVE_STOP;
    }
    out->max_tokens = (int64_t)answer;
    if (room.money_limit)
        out->microusd = (int64_t)((price_of(f, prompt, answer) + 999999) / 1000000);
    return RESERVE_OK;
}

/* ---- changing a budget ---- */

const char *budget_change_refused(const struct caps *c, const struct session_usage *u,
                                  const struct model_facts *f, int64_t new_budget_microusd)
{
    if (new_budget_microusd <= 0)
        return NULL;
    if (!c->budget_microusd)
        return "budget_create_only";
    if (!f->priced)
        return "model_not_budgetable";
    return new_budget_microusd > u->cost_microusd ? NULL : "budget_not_raised";
}
