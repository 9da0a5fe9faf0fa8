#include "base/mime.h"

#include "base/mem.h"

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

struct str mime_of_name(struct str filename)
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

struct str mime_extension(struct str type)
{
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_eqz(type, known[i].type))
            return str_z(known[i].extension);
    return STR_NONE;
}
