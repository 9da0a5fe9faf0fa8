#include "http/multipart_head.h"

#include "http/http.h"

enum { NAME_MAX_BYTES = 256 };

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct str skip_blanks(struct str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = str_skip(s, 1);
    return s;
}

static struct str take_token(struct str *rest)
{
    size_t n = 0;
    while (n < rest->len && http_is_token(rest->ptr[n]))
        n++;
    struct str token = str_take(*rest, n);
    *rest = str_skip(*rest, n);
    return token;
}

/* ---- parameters: "; name=value; name="quoted" ---- */

struct param {
    struct str name, value; /* a quoted value without its quotes, escapes still in it */
};

enum param_result { PARAM_END, PARAM_FOUND, PARAM_BAD };

static enum param_result take_quoted(struct str *rest, struct str *out)
{
    for (size_t i = 1; i < rest->len; i++) {
        if (rest->ptr[i] == '"') {
            *out = str_n(rest->ptr + 1, i - 1);
            *rest = str_skip(*rest, i + 1);
            return PARAM_FOUND;
        }
        /* A backslash before anything else is itself: Windows paths are sent so. */
        if (rest->ptr[i] == '\\' && i + 1 < rest->len &&
            (rest->ptr[i + 1] == '"' || rest->ptr[i + 1] == '\\'))
            i++;
    }
    return PARAM_BAD;
}

static enum param_result next_param(struct str *rest, struct param *out)
{
    *rest = skip_blanks(*rest);
    if (rest->len == 0)
        return PARAM_END;
    if (rest->ptr[0] != ';')
        return PARAM_BAD;
    *rest = skip_blanks(str_skip(*rest, 1));
    if (rest->len == 0)
        return PARAM_END;
    out->name = take_token(rest);
    if (out->name.len == 0 || rest->len < 2 || rest->ptr[0] != '=')
        return PARAM_BAD;
    *rest = str_skip(*rest, 1);
    if (rest->ptr[0] == '"')
        return take_quoted(rest, &out->value);
    size_t n = 0;
    while (n < rest->len && !strchr("; \t\"", rest->ptr[n]))
        n++;
    out->value = str_take(*rest, n);
    *rest = str_skip(*rest, n);
    return n ? PARAM_FOUND : PARAM_BAD;
}

/* ---- the request's Content-Type ---- */

static bool boundary_ok(struct str b)
{
    if (b.len == 0 || b.len > MULTIPART_BOUNDARY_MAX || b.ptr[b.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < b.len; i++)
        if (!is_alnum(b.ptr[i]) && (b.ptr[i] == '\0' || !strchr("'()+_,-./:=? ", b.ptr[i])))
            return false;
    return true;
}

int multipart_boundary(struct str content_type, char out[MULTIPART_BOUNDARY_MAX], size_t *len,
                       struct err *err)
{
    static const struct str wanted = {"multipart/form-data", 19};
    struct str rest = str_skip(str_trim(content_type), wanted.len), boundary = STR_NONE;
    struct param p;
    enum param_result found = PARAM_BAD;
    if (!str_eq_nocase(str_take(str_trim(content_type), wanted.len), wanted) ||
        (rest.len > 0 && !strchr("; \t", rest.ptr[0])))
        return err_at(err, ERR_INVALID, "content-type",
                      "content-type: Input should be multipart/form-data, not '" STR_FMT "'",
                      STR_ARG(str_utf8_take(content_type, 100)));
    while ((found = next_param(&rest, &p)) == PARAM_FOUND) {
        if (!str_eq_nocase(p.name, STR("boundary")))
            continue;
        if (str_some(boundary))
            found = PARAM_BAD;
        boundary = p.value;
        if (found == PARAM_BAD)
            break;
    }
    if (found == PARAM_BAD || !boundary_ok(boundary))
        return err_at(err, ERR_INVALID, "content-type",
                      "content-type: Input should have one boundary of 1 to %d characters, as in "
                      "multipart/form-data; boundary=xyz",
                      MULTIPART_BOUNDARY_MAX);
    memcpy(out, boundary.ptr, boundary.len);
    *len = boundary.len;
    return 0;
}

/* ---- values ---- */

/* The byte that "%XX" at the begin of `s` means, or -1. */
static int escaped(struct str s)
{
    if (s.len < 3 || s.ptr[0] != '%' || str_hex(s.ptr[1]) < 0 || str_hex(s.ptr[2]) < 0)
        return -1;
    return str_hex(s.ptr[1]) << 4 | str_hex(s.ptr[2]);
}

/* Browsers write a quote and line ends as %22, %0D and %0A and nothing else so; other clients put a
 * backslash before a quote. Both are undone. */
static bool unquote(struct str raw, struct buf *text, struct str *out)
{
    size_t from = text->len;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        int byte = escaped(str_skip(raw, i));
        if (c == '\\' && i + 1 < raw.len && (raw.ptr[i + 1] == '"' || raw.ptr[i + 1] == '\\')) {
            c = raw.ptr[++i];
        } else if (byte == '"' || byte == '\r' || byte == '\n') {
            c = (char)byte;
            i += 2;
        }
        buf_ch(text, c);
    }
    *out = str_n(text->data ? text->data + from : "", text->len - from);
    return buf_ok(text) && str_utf8(*out);
}

static void put_latin1(struct buf *b, unsigned byte)
{
    if (byte >= 0x80) {
        buf_ch(b, (char)(0xC0 | byte >> 6));
        byte = 0x80 | (byte & 0x3F);
    }
    buf_ch(b, (char)byte);
}

/* RFC 8187: charset'language'percent-encoded. */
static bool unextend(struct str raw, struct buf *text, struct str *out)
{
    struct str rest = raw, charset = str_split(&rest, '\'');
    bool utf8 = str_eq_nocase(charset, STR("utf-8"));
    if ((!utf8 && !str_eq_nocase(charset, STR("iso-8859-1"))) || !str_some(rest))
        return false;
    (void)str_split(&rest, '\'');
    if (!str_some(rest))
        return false;
    size_t from = text->len;
    for (size_t i = 0; i < rest.len; i++) {
        int byte = (unsigned char)rest.ptr[i];
        if (rest.ptr[i] == '%') {
            byte = escaped(str_skip(rest, i));
            i += 2;
        } else if (!http_is_token(rest.ptr[i])) {
            return false;
        }
        if (byte <= 0)
            return false;
        if (utf8)
            buf_ch(text, (char)byte);
        else
            put_latin1(text, (unsigned)byte);
    }
    *out = str_n(text->data ? text->data + from : "", text->len - from);
    return buf_ok(text) && str_utf8(*out);
}

/* ---- the head of a part ---- */

static int refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "The multipart body is malformed: %s", why);
}

static int disposition(struct str value, struct buf *text, struct multipart_part *out,
                       struct err *err)
{
    struct str rest = value, extended = STR_NONE;
    struct param p;
    enum param_result found;
    if (str_some(out->name))
        return refuse(err, "a part has two Content-Dispositions");
    if (!str_eq_nocase(take_token(&rest), STR("form-data")))
        return refuse(err, "the Content-Disposition of a part is not form-data");
    while ((found = next_param(&rest, &p)) == PARAM_FOUND) {
        struct str *to = str_eq_nocase(p.name, STR("name"))        ? &out->name
                         : str_eq_nocase(p.name, STR("filename"))  ? &out->filename
                         : str_eq_nocase(p.name, STR("filename*")) ? &extended
                                                                   : NULL;
        if (!to)
            continue;
        if (str_some(*to))
            return refuse(err, "a parameter of Content-Disposition is given twice");
        if (to == &extended ? !unextend(p.value, text, to) : !unquote(p.value, text, to))
            return refuse(err, to == &out->name
                                   ? "the name of a part is not UTF-8"
                                   : "a filename is not UTF-8, or wrongly encoded in filename*");
    }
    if (found == PARAM_BAD)
        return refuse(err, "a Content-Disposition cannot be read");
    if (out->name.len == 0 || out->name.len > NAME_MAX_BYTES)
        return refuse(err, "a part has no name, or one over 256 bytes");
    if (str_some(extended))
        out->filename = extended;
    return 0;
}

static bool plain_encoding(struct str value)
{
    return str_eq_nocase(value, STR("binary")) || str_eq_nocase(value, STR("8bit")) ||
           str_eq_nocase(value, STR("7bit"));
}

static int line(struct str l, struct buf *text, struct multipart_part *out, struct err *err)
{
    for (size_t i = 0; i < l.len; i++)
        if (((unsigned char)l.ptr[i] < 0x20 && l.ptr[i] != '\t') || l.ptr[i] == 0x7F)
            return refuse(err, "a header of a part has control characters");
    struct str value = l, name = take_token(&value);
    if (name.len == 0 || value.len == 0 || value.ptr[0] != ':')
        return refuse(err, "a header of a part cannot be read");
    value = str_trim(str_skip(value, 1));
    if (str_eq_nocase(name, STR("content-disposition")))
        return disposition(value, text, out, err);
    if (str_eq_nocase(name, STR("content-type"))) {
        if (str_some(out->type))
            return refuse(err, "a part has two Content-Types");
        out->type = value;
    }
    if (str_eq_nocase(name, STR("content-transfer-encoding")) && !plain_encoding(value))
        return refuse(err, "a part has a Content-Transfer-Encoding; send its bytes as they are");
    return 0;
}

int multipart_head(struct str head, struct buf *text, struct multipart_part *out, struct err *err)
{
    static const struct str line_end = {"\r\n", 2};
    unsigned lines = 0;
    *out = (struct multipart_part){0};
    /* What was decoded must not move while more is: nothing grows the buffer after this. */
    if (!buf_reserve(text, 2 * head.len + 1))
        return refuse(err, "the headers of a part are too long");
    for (;;) {
        ptrdiff_t n = str_find(head, line_end);
        if (n <= 0)
            break;
        if (++lines > MULTIPART_HEAD_LINES)
            return refuse(err, "a part has too many headers");
        int rc = line(str_take(head, (size_t)n), text, out, err);
        if (rc)
            return rc;
        head = str_skip(head, (size_t)n + 2);
    }
    return str_some(out->name) ? 0 : refuse(err, "a part has no Content-Disposition");
}
