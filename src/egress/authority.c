#include "egress/authority.h"

enum { NAME_BYTES = 253, LABEL_BYTES = 63 };

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > 0;
}

/* Resolvers take 127.1, 0x7f000001 and 017700000001 for addresses: whatever ends in a number is no
 * name. */
static bool numeric(struct str last)
{
    if (digits(last))
        return true;
    if (last.len < 2 || last.ptr[0] != '0' || last.ptr[1] != 'x')
        return false;
    for (size_t i = 2; i < last.len; i++)
        if (str_hex(last.ptr[i]) < 0)
            return false;
    return true;
}

bool host_canonical(struct str name, char out[HOST_MAX])
{
    if (name.len && name.ptr[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > NAME_BYTES)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c == '.' ? label == 0 : !name_char(c))
            return false;
        label = c == '.' ? 0 : label + 1;
        if (label > LABEL_BYTES)
            return false;
        out[i] = c;
    }
    out[name.len] = '\0';
    if (label == 0)
        return false;
    return !numeric(str_n(out + name.len - label, label));
}

static int malformed(struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "%s", why);
}

static int parse_host(struct str host, struct authority *a, struct err *err)
{
    bool bracketed = host.len >= 2 && host.ptr[0] == '[';
    if (bracketed) {
        if (host.ptr[host.len - 1] != ']')
            return malformed(err, "the host lacks its closing bracket");
        host = str_n(host.ptr + 1, host.len - 2);
    }
    if (ip_parse(host, &a->ip)) {
        if (a->ip.v6 != bracketed)
            return malformed(err, "brackets are for IPv6 addresses");
        a->literal = true;
        char text[IP_TEXT_MAX];
        ip_text(&a->ip, text);
        return str_copyz(a->host, sizeof a->host, str_z(text)) ? 0 : ERR_INVALID;
    }
    if (bracketed || !host_canonical(host, a->host))
        return malformed(err, "the host is neither a name nor an IP address");
    return 0;
}

int authority_parse(struct str text, uint16_t default_port, struct authority *out, struct err *err)
{
    struct authority a = {.port = default_port};
    size_t end = text.len;
    while (end > 0 && text.ptr[end - 1] >= '0' && text.ptr[end - 1] <= '9')
        end--;
    bool has_port = end > 0 && text.ptr[end - 1] == ':';
    struct str host = has_port ? str_take(text, end - 1) : text;
    if (has_port) {
        int64_t port = 0;
        struct str number = str_skip(text, end);
        if (number.len == 0 || number.len > 5 || !str_i64(number, &port) || port < 1 ||
            port > 65535)
            return malformed(err, "the port must be 1 to 65535");
        a.port = (uint16_t)port;
    } else if (default_port == 0) {
        return malformed(err, "the port is missing: host:port is needed");
    }
    int rc = parse_host(host, &a, err);
    if (rc == 0)
        *out = a;
    return rc;
}

bool authority_eq(const struct authority *a, const struct authority *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}
