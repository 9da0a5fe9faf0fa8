#include "api/file_name.h"

#include "base/limits.h"
#include "base/mime.h"

static const struct str bytes_type = {"application/octet-stream", 24};

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$&-^_.+", c));
}

/* "type/subtype" of RFC 6838. */
static bool type_ok(struct str type)
{
    size_t slashes = 0;
    for (size_t i = 0; i < type.len; i++) {
        if (type.ptr[i] == '/' && i > 0 && i + 1 < type.len)
            slashes++;
        else if (!is_token(type.ptr[i]))
            return false;
    }
    return slashes == 1 && type.len <= LIMIT_MIME_TYPE;
}

int file_type_decide(struct arena *a, struct str given, struct str filename, struct str *out,
                     struct err *err)
{
    struct str rest = given, type = str_trim(str_split(&rest, ';'));
    if (type.len == 0 || str_eq_nocase(type, bytes_type)) {
        *out = mime_of_name(filename);
        return 0;
    }
    if (!type_ok(type))
        return err_at(err, ERR_INVALID, "file",
                      "file: The part's Content-Type should be a type such as text/plain, of at "
                      "most %d bytes",
                      LIMIT_MIME_TYPE);
    char *lower = arena_strz(a, type);
    if (!lower)
        return err_set(err, ERR_LIMIT, "the request is too large");
    for (char *c = lower; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    *out = str_n(lower, type.len);
    return 0;
}

static struct str last_component(struct str path)
{
    size_t at = path.len;
    while (at > 0 && path.ptr[at - 1] != '/' && path.ptr[at - 1] != '\\')
        at--;
    return str_skip(path, at);
}

static struct str nameless(struct arena *a, struct str type)
{
    struct str extension = mime_extension(type);
    if (str_some(extension))
        return arena_printf(a, "unnamed." STR_FMT, STR_ARG(extension));
    return STR("unnamed");
}

int file_name_decide(struct arena *a, struct str given, struct str type, struct str *out,
                     struct err *err)
{
    struct str name = last_component(given);
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c < 0x20 || c == 0x7F)
            return err_at(err, ERR_INVALID, "file",
                          "file: The filename holds a control character; rename the file");
        if (strchr("<>:\"|?*", c))
            return err_at(err, ERR_INVALID, "file",
                          "file: The filename holds the character %c; none of < > : \" | ? * \\ / "
                          "is allowed in it",
                          c);
    }
    if (str_eqz(name, ".") || str_eqz(name, ".."))
        return err_at(err, ERR_INVALID, "file", "file: '" STR_FMT "' is no filename",
                      STR_ARG(name));
    if (str_utf8_len(name) > LIMIT_FILENAME_CHARS)
        return err_at(err, ERR_INVALID, "file",
                      "file: The filename should have at most %d characters", LIMIT_FILENAME_CHARS);
    *out = name.len ? arena_str(a, name) : nameless(a, type);
    return str_some(*out) ? 0 : err_set(err, ERR_LIMIT, "the request is too large");
}
