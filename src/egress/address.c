#include "egress/address.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>

bool ip_parse(struct str text, struct ip *out)
{
    char z[IP_TEXT_MAX];
    if (memchr(text.ptr ? text.ptr : "", '\0', text.len) || !str_copyz(z, sizeof z, text))
        return false;
    struct ip ip = {.v6 = strchr(z, ':') != NULL};
    if (inet_pton(ip.v6 ? AF_INET6 : AF_INET, z, ip.bytes) != 1)
        return false;
    *out = ip;
    return true;
}

void ip_text(const struct ip *ip, char out[IP_TEXT_MAX])
{
    if (!inet_ntop(ip->v6 ? AF_INET6 : AF_INET, ip->bytes, out, IP_TEXT_MAX))
        out[0] = '\0';
}

bool ip_from(const struct sockaddr_storage *sa, struct ip *out)
{
    *out = (struct ip){.v6 = sa->ss_family == AF_INET6};
    if (sa->ss_family == AF_INET)
        memcpy(out->bytes, &((const struct sockaddr_in *)sa)->sin_addr, 4);
    else if (sa->ss_family == AF_INET6)
        memcpy(out->bytes, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
    else
        return false;
    return true;
}

socklen_t ip_to(const struct ip *ip, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (ip->v6) {
        struct sockaddr_in6 *sa = (struct sockaddr_in6 *)out;
        sa->sin6_family = AF_INET6;
        sa->sin6_port = htons(port);
        memcpy(&sa->sin6_addr, ip->bytes, 16);
        return sizeof *sa;
    }
    struct sockaddr_in *sa = (struct sockaddr_in *)out;
    sa->sin_family = AF_INET;
    sa->sin_port = htons(port);
    memcpy(&sa->sin_addr, ip->bytes, 4);
    return sizeof *sa;
}

/* ---- ranges ---- */

static bool same_prefix(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool ip_in_range(const struct ip *ip, const struct ip_range *range)
{
    return ip->v6 == range->base.v6 && same_prefix(ip->bytes, range->base.bytes, range->bits);
}

int ip_range_parse(struct str text, struct ip_range *out, struct err *err)
{
    struct str bits = text, base = str_split(&bits, '/');
    struct ip_range r = {.bits = 0};
    int64_t n = 0;
    if (!ip_parse(base, &r.base))
        return err_set(err, ERR_INVALID,
                       "\"" STR_FMT "\" is no address range; write one as 10.0.0.0/8 or fd00::/8",
                       STR_ARG(str_take(text, 60)));
    int64_t most = r.base.v6 ? 128 : 32;
    if (!str_some(bits))
        n = most;
    else if (!str_i64(bits, &n) || n < 0 || n > most)
        return err_set(err, ERR_INVALID, "the prefix of an address range must be 0 to %d",
                       (int)most);
    r.bits = (unsigned)n;
    struct ip cut = r.base;
    for (unsigned i = r.bits; i < most; i++)
        cut.bytes[i / 8] &= (unsigned char)~(0x80u >> i % 8);
    if (memcmp(cut.bytes, r.base.bytes, sizeof cut.bytes) != 0) {
        char should[IP_TEXT_MAX];
        ip_text(&cut, should);
        return err_set(err, ERR_INVALID, "the address range " STR_FMT " must start at %s",
                       STR_ARG(text), should);
    }
    *out = r;
    return 0;
}

struct special {
    const char *what;
    struct ip_range range;
};

#define V4(a, b, c, d, n, text)                                                                    \
    {                                                                                              \
        text,                                                                                      \
        {                                                                                          \
            {false, {a, b, c, d}}, n                                                               \
        }                                                                                          \
    }
/* The documentation ranges (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24) are not here: nobody
 * lives there. */
static const struct special special_v4[] = {
    V4(0, 0, 0, 0, 8, "this host"),
    V4(10, 0, 0, 0, 8, "private"),
    V4(100, 64, 0, 0, 10, "carrier-grade NAT"),
    V4(127, 0, 0, 0, 8, "loopback"),
    V4(168, 63, 129, 16, 32, "a metadata service"), /* public by its looks */
    V4(169, 254, 0, 0, 16, "link-local"),
    V4(172, 16, 0, 0, 12, "private"),
    V4(192, 0, 0, 0, 24, "reserved"),
    V4(192, 88, 99, 0, 24, "a 6to4 relay"),
    V4(192, 168, 0, 0, 16, "private"),
    V4(198, 18, 0, 0, 15, "for benchmarks"),
    V4(224, 0, 0, 0, 4, "multicast"),
    V4(240, 0, 0, 0, 4, "reserved"),
};

#define V6(a, b, c, n, text)                                                                       \
    {                                                                                              \
        text,                                                                                      \
        {                                                                                          \
            {true, {(a) >> 8, (a)&255, (b) >> 8, (b)&255, (c) >> 8, (c)&255}}, n                   \
        }                                                                                          \
    }
/* Only 2000::/3 is given out as public; those outside are named for the message's sake. */
static const struct ip_range global_v6 = {{true, {0x20}}, 3};
static const struct special special_v6[] = {
    {"loopback", {{true, {[15] = 1}}, 128}},
    {"an IPv4-mapped address", {{true, {[10] = 0xff, [11] = 0xff}}, 96}},
    V6(0x64, 0xff9b, 0, 96, "a NAT64 address"),
    V6(0x64, 0xff9b, 1, 48, "a NAT64 address"),
    V6(0x2001, 0, 0, 32, "a Teredo address"),
    V6(0x2002, 0, 0, 16, "a 6to4 address"),
    V6(0xfc00, 0, 0, 7, "private"),
    V6(0xfe80, 0, 0, 10, "link-local"),
    V6(0xfec0, 0, 0, 10, "private"),
    V6(0xff00, 0, 0, 8, "multicast"),
};

static const char *classify(const struct ip *ip)
{
    const struct special *table = ip->v6 ? special_v6 : special_v4;
    size_t n = ip->v6 ? COUNT_OF(special_v6) : COUNT_OF(special_v4);
    for (size_t i = 0; i < n; i++)
        if (ip_in_range(ip, &table[i].range))
            return table[i].what;
    return ip->v6 && !ip_in_range(ip, &global_v6) ? "reserved" : NULL;
}

/* An IPv6 address that stands for an IPv4 one: where its bytes are, or -1. */
static int embedded_at(const struct ip *ip)
{
    static const struct ip_range mapped = {{true, {[10] = 0xff, [11] = 0xff}}, 96};
    static const struct ip_range nat64 = {{true, {0, 0x64, 0xff, 0x9b}}, 96};
    static const struct ip_range six_to_four = {{true, {0x20, 0x02}}, 16};
    if (ip_in_range(ip, &mapped) || ip_in_range(ip, &nat64))
        return 12;
    return ip_in_range(ip, &six_to_four) ? 2 : -1;
}

const char *ip_refused(const struct ip *ip, const struct ip_range *allowed, size_t n)
{
    const char *what = classify(ip);
    if (!what)
        return NULL;
    bool listed = false;
    for (size_t i = 0; i < n && !listed; i++)
        listed = ip_in_range(ip, &allowed[i]);
    if (!listed)
        return what;
    int at = embedded_at(ip);
    if (at < 0)
        return NULL;
    /* Who allows NAT64 allows public IPv4 hosts through it, not 10.0.0.1. */
    struct ip inner = {.v6 = false};
    memcpy(inner.bytes, ip->bytes + at, 4);
    return ip_refused(&inner, allowed, n);
}
