#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *type;
    int status;
} table[ERR_INDEX_COUNT] = {[ERR_INDEX_OK] = {"OK", "api_error", 200},
#define X(name, type, status, text) [ERR_INDEX_##name] = {#name, type, status},
                            ERR_MAP(X)
#undef X
};

static int index_of(int code)
{
    int i = -code;
    return i > 0 && i < ERR_INDEX_COUNT ? i : ERR_INDEX_INTERNAL;
}

PRINTF(4, 0)
static void fill(struct err *e, int code, const char *at, const char *fmt, va_list ap)
{
    /* The message may quote the old one: format first, then store. */
    char msg[ERR_MSG_MAX];
    vsnprintf(msg, sizeof msg, fmt, ap);
    char where[ERR_AT_MAX];
    snprintf(where, sizeof where, "%s", at);
    *e = (struct err){.code = code};
    memcpy(e->msg, msg, sizeof msg);
    memcpy(e->at, where, sizeof where);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, code, "", fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_at(struct err *e, int code, const char *at, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, code, at, fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_sys(struct err *e, int sys, const char *fmt, ...)
{
    int code = sys == ENOSPC || sys == EDQUOT ? ERR_NO_SPACE
               : sys == EROFS                 ? ERR_READ_ONLY
                                              : ERR_IO;
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, code, "", fmt, ap);
        va_end(ap);
        e->sys = sys;
        char text[128];
        const char *s = strerror_r(sys, text, sizeof text);
        size_t n = strlen(e->msg);
        snprintf(e->msg + n, sizeof e->msg - n, ": %s", s);
    }
    return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return ERR_INTERNAL;
    char outer[ERR_MSG_MAX], inner[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(outer, sizeof outer, fmt, ap);
    va_end(ap);
    memcpy(inner, e->msg, sizeof inner);
    if (snprintf(e->msg, sizeof e->msg, "%.*s: %s", ERR_MSG_MAX / 2, outer, inner) < 0)
        e->msg[0] = '\0';
    return e->code;
}

const char *err_name(int code)
{
    return code == 0 ? table[0].name : table[index_of(code)].name;
}

const char *err_api_type(int code)
{
    return table[index_of(code)].type;
}

int err_http_status(int code)
{
    return code == 0 ? 200 : table[index_of(code)].status;
}
