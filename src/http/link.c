#include "http/link.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

static int get(CURLU *u, CURLUPart part, unsigned flags, char *out, size_t cap, struct err *err)
{
    char *text = NULL;
    CURLUcode rc = curl_url_get(u, part, &text, flags);
    bool fits = rc == CURLUE_OK && str_copyz(out, cap, str_z(text));
    curl_free(text);
    if (rc != CURLUE_OK)
        return err_set(err, ERR_INVALID, "the URL is malformed: %s", curl_url_strerror(rc));
    return fits ? 0 : err_set(err, ERR_INVALID, "the URL is too long");
}

static void strip_host(char host[HTTP_LINK_HOST_MAX])
{
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        memmove(host, host + 1, n - 2);
        host[n - 2] = '\0';
    } else if (n > 1 && host[n - 1] == '.') {
        host[n - 1] = '\0';
    }
    for (char *c = host; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
}

/* curl keeps the case of a host and the dot at its end: one host must have one form. */
static int canonical(CURLU *u, struct http_link *out, struct err *err)
{
    char scheme[16], port[16];
    int rc = get(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme, err);
    if (rc)
        return rc;
    out->https = strcmp(scheme, "https") == 0;
    if (!out->https && strcmp(scheme, "http") != 0)
        return err_set(err, ERR_INVALID, "the URL must start with http:// or https://");
    rc = get(u, CURLUPART_HOST, CURLU_PUNYCODE, out->host, sizeof out->host, err);
    if (rc)
        return rc;
    bool literal = out->host[0] == '[';
    strip_host(out->host);
    if (strchr(out->host, '%'))
        return err_set(err, ERR_INVALID, "the URL's host is malformed");
    if (!literal)
        curl_url_set(u, CURLUPART_HOST, out->host, 0);
    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
    rc = get(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port, err);
    rc = rc ? rc : get(u, CURLUPART_URL, CURLU_NO_DEFAULT_PORT, out->url, sizeof out->url, err);
    int64_t number = 0;
    if (rc == 0 && (!str_i64(str_z(port), &number) || number < 1 || number > 65535))
        return err_set(err, ERR_INVALID, "the URL's port is malformed");
    out->port = (uint16_t)number;
    return rc;
}

int http_link_parse(struct str text, const char *base, struct http_link *out, struct err *err)
{
    char z[HTTP_LINK_MAX];
    text = str_trim(text);
    if (text.len == 0)
        return err_set(err, ERR_INVALID, "the URL is empty");
    if (text.len >= sizeof z)
        return err_set(err, ERR_INVALID, "the URL is longer than %d bytes", HTTP_LINK_MAX - 1);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return err_set(err, ERR_INVALID, "the URL holds a control character");
    str_copyz(z, sizeof z, text);
    CURLU *u = curl_url();
    if (!u)
        abort(); /* no memory */
    const unsigned flags = CURLU_URLENCODE | CURLU_DISALLOW_USER | CURLU_NON_SUPPORT_SCHEME;
    CURLUcode code = base ? curl_url_set(u, CURLUPART_URL, base, flags) : CURLUE_OK;
    if (code == CURLUE_OK)
        code = curl_url_set(u, CURLUPART_URL, z, flags);
    struct http_link link = {.port = 0};
    int rc;
    if (code == CURLUE_USER_NOT_ALLOWED)
        rc = err_set(err, ERR_INVALID, "the URL holds a user name or password");
    else if (code == CURLUE_BAD_SCHEME || code == CURLUE_UNSUPPORTED_SCHEME)
        rc = err_set(err, ERR_INVALID, "the URL must start with http:// or https://");
    else if (code != CURLUE_OK)
        rc = err_set(err, ERR_INVALID, "the URL is malformed: %s", curl_url_strerror(code));
    else
        rc = canonical(u, &link, err);
    curl_url_cleanup(u);
    if (rc == 0)
        *out = link;
    return rc;
}

struct str http_link_path(const struct http_link *link)
{
    struct str rest = str_z(link->url);
    ptrdiff_t slash = str_find(rest, STR("://"));
    rest = str_skip(rest, (size_t)slash + 3);
    slash = str_find_ch(rest, '/');
    rest = slash < 0 ? STR("/") : str_skip(rest, (size_t)slash);
    ptrdiff_t query = str_find_ch(rest, '?');
    return query < 0 ? rest : str_take(rest, (size_t)query);
}
