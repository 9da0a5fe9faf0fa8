/* web_fetch: from a URL to a response, over redirects, each of them checked like the first. */
#include "web/impl.h"

#include <stdarg.h>
#include <stdio.h>

static void hop(struct web_run *r);

static void blocked(struct web_run *r, const char *fmt, ...) PRINTF(2, 3);

static void blocked(struct web_run *r, const char *fmt, ...)
{
    char why[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    web_fail(r, "url_not_allowed: %.*s %s%s", 400, r->link.url, why,
             r->hops > 1 ? " The page that was asked for led there by redirects." : "");
}

/* ---- the response ---- */

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct web_run *r = arg;
    r->status = status;
    r->type = arena_str(&r->arena, http_header_get(headers, n, "Content-Type"));
    struct str location = http_header_get(headers, n, "Location");
    struct http_link to;
    struct err err;
    if (!is_redirect(status) || !str_some(location))
        return;
    web_drop_http(r); /* nobody wants its body */
    if (http_link_parse(location, r->link.url, &to, &err)) {
        web_fail(r, "%.*s redirects to a place that cannot be followed: %s.", 400, r->link.url,
                 err.msg);
    } else if (r->hops >= WEB_HOPS) {
        web_fail(r, "More than %d redirects; the last one led to %.*s.", WEB_HOPS - 1, 400, to.url);
    } else {
        r->link = to;
        hop(r);
    }
}

static void on_data(void *arg, struct str piece)
{
    struct web_run *r = arg;
    buf_str(&r->body, piece);
}

static void connect_next(struct web_run *r);

static void on_done(void *arg, const struct err *err)
{
    struct web_run *r = arg;
    r->http = NULL;
    if (err->code == ERR_CONNECT && r->status == 0 && r->tried < r->naddresses)
        connect_next(r);
    else if (err->code == ERR_TOO_LARGE)
        web_fail(r, "%.*s is larger than the %lld MB that web_fetch reads.", 400, r->link.url,
                 (long long)(r->web->fetch_bytes >> 20));
    else if (err->code)
        web_fail(r, "Fetching %.*s failed: %s.", 400, r->link.url, err->msg);
    else if (r->status < 200 || r->status > 299)
        web_fail(r, "%.*s answered %d %s.", 400, r->link.url, r->status,
                 http_status_text(r->status));
    else
        page_begin(r);
}

/* ---- connecting ---- */

static void connect_next(struct web_run *r)
{
    static const struct http_header headers[] = {
        {STR("Accept"), STR("text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,"
                            "application/xml;q=0.9,application/pdf;q=0.8,*/*;q=0.1")},
        {STR("Accept-Language"), STR("en,*;q=0.5")},
    };
    const struct ip *ip = &r->addresses[r->tried++];
    char address[IP_TEXT_MAX], to[IP_TEXT_MAX + 16];
    struct err err;
    ip_text(ip, address);
    snprintf(to, sizeof to, "%s%s%s:%u", ip->v6 ? "[" : "", address, ip->v6 ? "]" : "",
             r->link.port);
    const struct http_call_params p = {
        .method = "GET",
        .url = r->link.url,
        .connect_to = to,
        .decompress = true,
        .headers = headers,
        .nheaders = COUNT_OF(headers),
        .connect_ms = r->web->timeout_ms,
        .max_response = (uint64_t)r->web->fetch_bytes,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = r,
    };
    r->status = 0;
    r->http = http_call_start(r->web->http, &p, &err);
    if (!r->http)
        web_fail(r, "%.*s cannot be fetched: %s.", 400, r->link.url, err.msg);
}

/* One bad address among a name's refuses the name. */
static void connect_checked(struct web_run *r, const struct ip *ips, size_t n)
{
    r->naddresses = r->tried = 0;
    for (size_t i = 0; i < n; i++) {
        const char *what = ip_refused(&ips[i], r->web->allow, r->web->nallow);
        if (what) {
            char address[IP_TEXT_MAX];
            ip_text(&ips[i], address);
            blocked(r,
                    "leads to the address %s (%s), and web_fetch reaches public addresses only. "
                    "The operator can allow others with web.allow_addresses.",
                    address, what);
            return;
        }
        if (r->naddresses < WEB_ADDRESSES)
            r->addresses[r->naddresses++] = ips[i];
    }
    if (r->naddresses)
        connect_next(r);
    else
        web_fail(r, "%.*s cannot be fetched: the name %s has no address.", 400, r->link.url,
                 r->link.host);
}

static void on_looked_up(void *arg, const struct err *err, const struct sockaddr_storage *addresses,
                         size_t n)
{
    struct web_run *r = arg;
    struct ip ips[LOOKUP_ADDRESSES];
    size_t count = 0;
    for (size_t i = 0; err->code == 0 && i < n && count < LOOKUP_ADDRESSES; i++)
        count += ip_from(&addresses[i], &ips[count]);
    if (r->over)
        ; /* too late */
    else if (err->code)
        web_fail(r, "%.*s cannot be fetched: the name %s %s.", 400, r->link.url, r->link.host,
                 err->code == ERR_NOT_FOUND ? "has no address" : "cannot be looked up now");
    else
        connect_checked(r, ips, count);
    web_run_release(r);
}

static void resolve(struct web_run *r)
{
    struct web *w = r->web;
    struct ip ip;
    struct err err;
    char name[HTTP_LINK_HOST_MAX + 1];
    bool known = ip_parse(str_z(r->link.host), &ip);
    for (size_t i = 0; i < w->nnames && !known; i++)
        if (strcmp(w->names[i].name, r->link.host) == 0) {
            ip = w->names[i].ip;
            known = true;
        }
    if (known) {
        connect_checked(r, &ip, 1);
        return;
    }
    /* The dot keeps the host's search domains out of it: the name means what it says. */
    snprintf(name, sizeof name, "%s.", r->link.host);
    r->pending++;
    if (w->lookup(w->loop, name, on_looked_up, r, &err) == 0)
        return;
    web_fail(r, "%.*s cannot be fetched: %s.", 400, r->link.url, err.msg);
    web_run_release(r);
}

/* Ports below 1024 are other protocols' (mail, databases' admin ports, ...). */
static bool port_refused(uint16_t port)
{
    return port < 1024 && port != 80 && port != 443;
}

static void hop(struct web_run *r)
{
    r->hops++;
    const char *list = web_host_refused(r->config, str_z(r->link.host), http_link_path(&r->link));
    if (list)
        blocked(r, "is kept out by the %s of this agent's web_fetch.", list);
    else if (port_refused(r->link.port))
        blocked(r, "names the port %u; web_fetch reaches 80, 443, and ports from 1024 on.",
                r->link.port);
    else
        resolve(r);
}

void fetch_begin(struct web_run *r)
{
    struct err err;
    buf_init(&r->body, (size_t)r->web->fetch_bytes + 1);
    if (http_link_parse(json_get_str(r->input, "url"), NULL, &r->link, &err)) {
        web_fail(r, "The URL cannot be fetched: %s.", err.msg);
    } else if (r->refused_source) {
        r->hops = 1;
        blocked(r, "did not appear in any source that the url_sources of this agent's web_fetch "
                   "allow. Fetch URLs exactly as they were given.");
    } else {
        hop(r);
    }
}
