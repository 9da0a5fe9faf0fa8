/* Chat completions, as the OpenAI API and many other servers speak them. */
#include "model/openai.h"

#include "model/openai_stream.h"

static size_t headers(const char *credential, bool fast, struct http_header *out)
{
    (void)fast;
    if (!credential)
        return 0;
    out[0] = (struct http_header){STR("authorization"), str_z(credential)};
    return 1;
}

const struct wire openai_wire = {
    .type = "openai",
    .base_url = "https://api.openai.com/v1",
    .version = "/v1",
    .path = "/chat/completions",
    .key_env = "OPENAI_API_KEY",
    .url_env = "OPENAI_BASE_URL",
    .credential = "Bearer %s",
    .system_messages = true,
    .reads_count = true,
    .decoder = &openai_decoder,
    .body = openai_body,
    .headers = headers,
};
