#include "api/file_name.h"

#include "base/limits.h"

static const struct {
    const char *extension, *type; /* the first of a type is the one that a nameless file gets */
} known[] = {
    {"txt", "text/plain"},
    {"md", "text/markdown"},
    {"csv", "text/csv"},
    {"tsv", "text/tab-separated-values"},
    {"html", "text/html"},
    {"htm", "text/html"},
    {"css", "text/css"},
    {"js", "text/javascript"},
    {"mjs", "text/javascript"},
    {"py", "text/x-python"},
    {"c", "text/x-c"},
    {"h", "text/x-c"},
    {"sh", "application/x-sh"},
    {"log", "text/plain"},
    {"patch", "text/x-diff"},
    {"diff", "text/x-diff"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"xml", "application/xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"svg", "image/svg+xml"},
    {"zip", "application/zip"},
    {"tar", "application/x-tar"},
    {"gz", "application/gzip"},
    {"zst", "application/zstd"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"mp3", "audio/mpeg"},
    {"wav", "audio/wav"},
    {"mp4", "video/mp4"},
};

static const struct str bytes_type = {"application/octet-stream", 24};

static struct str type_of_name(struct str filename)
{
    size_t dot = filename.len;
    while (dot > 0 && filename.ptr[dot - 1] != '.')
        dot--;
    struct str extension = str_skip(filename, dot);
    for (size_t i = 0; dot > 0 && i < COUNT_OF(known); i++)
        if (str_eq_nocase(extension, str_z(known[i].extension)))
            return str_z(known[i].type);
    return bytes_type;
}

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
        *out = type_of_name(filename);
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
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_eqz(type, known[i].type))
            return arena_printf(a, "unnamed.%s", known[i].extension);
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
