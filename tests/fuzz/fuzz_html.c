/* Web pages of any bytes: the text must be valid UTF-8, bounded, and of one line where it must. The
 * first byte says whether a charset is declared and how much text is wanted. */
#include "web/charset.h"
#include "web/html.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct str charsets[] = {STR_NONE,       STR("utf-8"),      STR("shift_jis"),
                                          STR("gb18030"), STR("utf-16le"),   STR("big5"),
                                          STR("euc-kr"),  STR("no-such-one")};
    if (len < 1 || len > 1024 * 1024)
        return 0;
    struct str page = str_n((const char *)data + 1, len - 1);
    struct buf text = BUF_INIT(page.len * 3 + 16), out = BUF_INIT(1024 * 1024);
    charset_to_utf8(page, charsets[data[0] % COUNT_OF(charsets)], true, &text);
    if (!buf_ok(&text) || !str_utf8(buf_view(&text)))
        abort();
    struct html_text t = {
        .out = &out, .limit = data[0] & 8 ? 100 : 400000, .base = "https://example.com/a/b?c"};
    html_to_text(buf_view(&text), &t);
    if (!buf_ok(&out) || !str_utf8(buf_view(&out)) || strchr(t.title, '\n') ||
        strlen(t.title) >= sizeof t.title || !str_utf8(str_z(t.title)))
        abort();
    buf_fini(&text);
    buf_fini(&out);
    return 0;
}
