#include "model/table.h"

bool model_dollars(struct str text, int64_t *microusd)
{
    int64_t value = 0;
    size_t whole = 0, decimals = 0;
    bool point = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '.' && !point && whole) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9' || decimals == 6 || (!point && whole == 7))
            return false;
        value = value * 10 + (c - '0');
        if (point)
            decimals++;
        else
            whole++;
    }
    if (whole == 0 || (point && decimals == 0))
        return false;
    for (; decimals < 6; decimals++)
        value *= 10;
    if (value > INT64_C(1000000) * 1000000)
        return false;
    *microusd = value;
    return true;
}

/* Tokens times micro-dollars per million tokens passes 64 bits for absurd but possible counts. */
static __int128 times(int64_t tokens, int64_t price)
{
    return tokens > 0 ? (__int128)tokens * price : 0;
}

void model_price_of(const struct model_info *info, struct model_usage *usage)
{
    usage->cost_microusd = 0;
    usage->unpriced = !info || !info->priced;
    if (usage->unpriced)
        return;
    __int128 prompt = (__int128)usage->input_tokens + usage->cache_read_tokens +
                      usage->cache_write_5m_tokens + usage->cache_write_1h_tokens;
    bool band = info->long_above_tokens > 0 && prompt > info->long_above_tokens;
    __int128 sum = times(usage->input_tokens, band ? info->long_input : info->input) +
                   times(usage->output_tokens, band ? info->long_output : info->output) +
                   times(usage->cache_write_5m_tokens,
                         band ? info->long_cache_write_5m : info->cache_write_5m) +
                   times(usage->cache_write_1h_tokens,
                         band ? info->long_cache_write_1h : info->cache_write_1h) +
                   times(usage->cache_read_tokens, band ? info->long_cache_read : info->cache_read);
    /* Rounded once, over the sum: a request never costs less than its exact price. */
    __int128 cost = (sum + 999999) / 1000000;
    usage->cost_microusd = cost > INT64_MAX ? INT64_MAX : (int64_t)cost;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void model_facts_of(const struct model_info *info, struct model_facts *out)
{
    *out = (struct model_facts){.context_tokens = info->context_tokens,
                                .max_output_tokens = info->max_output_tokens,
                                .priced = info->priced,
                                .system_messages = info->system_messages};
    if (!info->priced)
        return;
    /* Requests write to the cache for five minutes only. */
    int64_t input = most(info->input, most(info->cache_read, info->cache_write_5m));
    int64_t output = info->output;
    if (info->long_above_tokens > 0 && info->context_tokens > info->long_above_tokens) {
        input = most(input, most(info->long_input, info->long_cache_read));
        input = most(input, info->long_cache_write_5m);
        output = most(output, info->long_output);
    }
    out->input_price = input;
    out->output_price = output;
}
