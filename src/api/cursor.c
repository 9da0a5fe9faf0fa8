#include "api/cursor.h"

#include "base/id.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_write(struct buf *out, struct str bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.ptr;
    size_t i = 0;
    for (; i + 3 <= bytes.len; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (unsigned)p[i + 1] << 8 | p[i + 2];
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], alphabet[v >> 6 & 63],
                        alphabet[v & 63]};
        buf_put(out, four, 4);
    }
    if (bytes.len - i == 1) {
        buf_ch(out, alphabet[p[i] >> 2]);
        buf_ch(out, alphabet[(p[i] & 3) << 4]);
    } else if (bytes.len - i == 2) {
        buf_ch(out, alphabet[p[i] >> 2]);
        buf_ch(out, alphabet[(p[i] & 3) << 4 | p[i + 1] >> 4]);
        buf_ch(out, alphabet[(p[i + 1] & 15) << 2]);
    }
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_read(struct arena *a, struct str text, struct str *out)
{
    if (text.len % 4 == 1)
        return false;
    char *bytes = arena_bytes(a, text.len * 3 / 4 + 1);
    if (!bytes)
        return false;
    size_t n = 0;
    unsigned acc = 0, bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int v = value_of(text.ptr[i]);
        if (v < 0)
            return false;
        acc = (acc << 6 | (unsigned)v) & 0xFFFFFF;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[n++] = (char)(acc >> bits & 0xFF);
        }
    }
    if (acc & ((1u << bits) - 1))
        return false;
    *out = str_n(bytes, n);
    return true;
}

void cursor_write(struct buf *out, const struct cursor *c)
{
    AUTO_BUF struct buf plain = BUF_INIT(256);
    buf_printf(&plain, "%c1%c%c %lld %lld %lld ", (char)c->list, c->desc ? 'd' : 'a',
               c->backward ? 'p' : 'n', (long long)c->at_us, (long long)c->number,
               (long long)c->inbox);
    buf_str(&plain, c->id);
    base64url_write(out, buf_view(&plain));
}

static int refuse(struct err *err)
{
    return err_at(err, ERR_INVALID, "page",
                  "page: Invalid cursor; use the next_page or prev_page of an earlier response of "
                  "this list");
}

int cursor_read(struct arena *a, struct str text, enum cursor_list list, bool desc,
                struct cursor *out, struct err *err)
{
    struct str plain;
    if (text.len > 512 || !base64url_read(a, text, &plain) || plain.len < 5 ||
        plain.ptr[0] != (char)list || plain.ptr[1] != '1')
        return refuse(err);
    struct cursor c = {.list = list, .desc = plain.ptr[2] == 'd', .backward = plain.ptr[3] == 'p'};
    struct str rest = str_skip(plain, 5);
    if (!str_i64(str_split(&rest, ' '), &c.at_us) || !str_some(rest) ||
        !str_i64(str_split(&rest, ' '), &c.number) || !str_some(rest) ||
        !str_i64(str_split(&rest, ' '), &c.inbox) || !str_some(rest))
        return refuse(err);
    if (rest.len >= ID_MAX)
        return refuse(err);
    c.id = rest;
    if (c.desc != desc)
        return err_at(err, ERR_INVALID, "page",
                      "page: This cursor was made with order=%s; use it with the same order",
                      c.desc ? "desc" : "asc");
    *out = c;
    return 0;
}
