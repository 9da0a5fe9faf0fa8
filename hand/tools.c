#include "hand/tools.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

static const struct tool tools[] = {
    {"read", tool_read, false}, {"write", tool_write, true}, {"edit", tool_edit, true},
    {"glob", tool_glob, false}, {"grep", tool_grep, false},
};

const struct tool *tool_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(tools); i++)
        if (str_eqz(name, tools[i].name))
            return &tools[i];
    return NULL;
}

bool tool_fail(struct buf *out, const char *fmt, ...)
{
    char text[PATH_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_z(out, text);
    return false;
}

bool tool_fail_sys(struct buf *out, const char *tool, struct str path, int sys)
{
    static const struct {
        int sys;
        const char *text;
    } known[] = {
        {ENOENT, "no such file or directory"},
        {EACCES, "permission denied"},
        {EPERM, "permission denied"},
        {ENOTDIR, "not a directory"},
        {EISDIR, "is a directory"},
        {ELOOP, "too many levels of symbolic links"},
        {ENAMETOOLONG, "file name too long"},
        {ENOSPC, "no space left on device"},
        {EDQUOT, "no space left on device"},
        {EMFILE, "too many open files"},
        {ENFILE, "too many open files"},
        {EROFS, "read-only file system"},
        {EFBIG, "file too large: the sandbox limits the size of one file"},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (known[i].sys == sys)
            return tool_fail(out, "%s: " STR_FMT ": %s", tool, STR_ARG(path), known[i].text);
    return tool_fail(out, "%s: " STR_FMT ": i/o error (errno %d)", tool, STR_ARG(path), sys);
}

bool tool_arg(const struct json *input, const char *tool, const char *key, bool empty_ok,
              struct str *value, struct buf *out)
{
    const struct json *v = json_get(input, key);
    if (!v || v->type == JSON_NULL)
        return tool_fail(out, "%s: %s is required", tool, key);
    if (v->type != JSON_STRING)
        return tool_fail(out, "%s: %s must be a string, not %s", tool, key,
                         json_type_name(v->type));
    if (v->str.len == 0 && !empty_ok)
        return tool_fail(out, "%s: %s is required", tool, key);
    *value = v->str;
    return true;
}

bool tool_path(const struct tool_env *env, const char *tool, struct str path, char abs[],
               struct buf *out)
{
    if (memchr(path.ptr, '\0', path.len))
        return tool_fail(out, "%s: the path contains a NUL character", tool);
    int n = path.len && path.ptr[0] == '/'
                ? snprintf(abs, PATH_MAX, STR_FMT, STR_ARG(path))
                : snprintf(abs, PATH_MAX, "%s/" STR_FMT, env->workdir, STR_ARG(path));
    if (n < 0 || n >= PATH_MAX)
        return tool_fail_sys(out, tool, str_take(path, 200), ENAMETOOLONG);
    return true;
}
