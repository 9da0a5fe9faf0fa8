/* From the form of the Messages API to that of chat completions.
 *
 * One message becomes one or more: tool results are messages of their own there, and must follow
 * the calls at once, so they come first; what else the user's message holds follows as one user
 * message. Nothing depends on anything but the blocks themselves.
 */
#include "model/openai.h"

#include "json/writer.h"

static struct str type_of(const struct json *block)
{
    return json_get_str(block, "type");
}

static bool is(const struct json *block, const char *type)
{
    return str_eqz(type_of(block), type);
}

/* ---- text ---- */

static void add(struct buf *b, const char *between, struct str text)
{
    if (b->len && text.len)
        buf_z(b, between);
    buf_str(b, text);
}

static void document_text(struct buf *b, const struct json *block);

/* What a block says to a model that reads text; images are told apart by the caller. */
static void block_text(struct buf *b, const struct json *block)
{
    if (block->type == JSON_STRING) {
        add(b, "\n\n", block->str);
    } else if (is(block, "text")) {
        add(b, "\n\n", json_get_str(block, "text"));
    } else if (is(block, "document")) {
        document_text(b, block);
    } else if (is(block, "search_result")) {
        add(b, "\n\n", json_get_str(block, "title"));
        add(b, "\n", json_get_str(block, "source"));
        json_for_each (piece, json_get(block, "content"))
            block_text(b, piece);
    } else if (is(block, "image")) {
        add(b, "\n\n", STR("(an image that this model cannot be shown)"));
    } else {
        /* Nothing is dropped silently: the model sees what it was. */
        add(b, "\n\n", block->raw);
    }
}

static void document_text(struct buf *b, const struct json *block)
{
    const struct json *source = json_get(block, "source");
    struct str title = json_get_str(block, "title"), context = json_get_str(block, "context");
    if (title.len) {
        add(b, "\n\n", STR("Document: "));
        buf_str(b, title);
    }
    add(b, "\n\n", context);
    if (is(source, "text")) {
        add(b, "\n\n", json_get_str(source, "data"));
    } else if (is(source, "url")) {
        add(b, "\n\n", STR("Document at "));
        buf_str(b, json_get_str(source, "url"));
    } else if (is(source, "content")) {
        const struct json *content = json_get(source, "content");
        if (json_is(content, JSON_STRING))
            add(b, "\n\n", content->str);
        else
            json_for_each (piece, content)
                block_text(b, piece);
    } else {
        add(b, "\n\n", STR("(a document that this model cannot be shown)"));
    }
}

/* ---- parts ---- */

static void data_url(struct jw *w, const char *key, const struct json *source)
{
    AUTO_BUF struct buf url = BUF_INIT(LIMIT_PROMPT);
    buf_z(&url, "data:");
    buf_str(&url, json_get_str(source, "media_type"));
    buf_z(&url, ";base64,");
    buf_str(&url, json_get_str(source, "data"));
    jw_kstr(w, key, buf_ok(&url) ? buf_view(&url) : STR(""));
}

/* An image, or a document that is not text: what only a part can carry. */
static bool is_media(const struct json *block)
{
    const struct json *source = json_get(block, "source");
    if (is(block, "image"))
        return is(source, "base64") || is(source, "url");
    return is(block, "document") && is(source, "base64");
}

static void text_part(struct jw *w, struct str text)
{
    if (text.len == 0)
        return;
    jw_obj(w);
    jw_kz(w, "type", "text");
    jw_kstr(w, "text", text);
    jw_obj_end(w);
}

static void media_part(struct jw *w, const struct json *block)
{
    const struct json *source = json_get(block, "source");
    bool image = is(block, "image");
    struct str title = json_get_str(block, "title");
    jw_obj(w);
    jw_kz(w, "type", image ? "image_url" : "file");
    jw_key(w, image ? "image_url" : "file");
    jw_obj(w);
    if (!image)
        jw_kstr(w, "filename", title.len ? title : STR("document.pdf"));
    if (is(source, "url"))
        jw_kstr(w, "url", json_get_str(source, "url"));
    else
        data_url(w, image ? "url" : "file_data", source);
    jw_obj_end(w);
    jw_obj_end(w);
}

static void block_part(struct jw *w, const struct json *block)
{
    if (is_media(block)) {
        media_part(w, block);
        return;
    }
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
    block_text(&text, block);
    text_part(w, buf_view(&text));
}

/* ---- messages ---- */

static void begin(struct jw *w, const char *role)
{
    jw_obj(w);
    jw_kz(w, "role", role);
}

/* The texts of a list of blocks, or the string that stands in its place. */
static void texts(struct buf *b, const struct json *content)
{
    if (json_is(content, JSON_STRING))
        buf_str(b, content->str);
    else if (json_is(content, JSON_ARRAY))
        json_for_each (block, content)
            block_text(b, block);
}

static void put_system(struct jw *w, const struct json *system)
{
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
    texts(&text, system);
    if (text.len == 0)
        return;
    begin(w, "system");
    jw_kstr(w, "content", buf_view(&text));
    jw_obj_end(w);
}

static void put_calls(struct jw *w, const struct json *content)
{
    bool some = false;
    json_for_each (block, content) {
        if (!is(block, "tool_use"))
            continue;
        if (!some) {
            jw_key(w, "tool_calls");
            jw_arr(w);
        }
        some = true;
        const struct json *input = json_get(block, "input");
        jw_obj(w);
        jw_kstr(w, "id", json_get_str(block, "id"));
        jw_kz(w, "type", "function");
        jw_key(w, "function");
        jw_obj(w);
        jw_kstr(w, "name", json_get_str(block, "name"));
        /* The text that the model wrote, not a rewriting of it. */
        jw_kstr(w, "arguments", input ? input->raw : STR("{}"));
        jw_obj_end(w);
        jw_obj_end(w);
    }
    if (some)
        jw_arr_end(w);
}

static bool has_calls(const struct json *content)
{
    json_for_each (block, content) {
        if (is(block, "tool_use"))
            return true;
    }
    return false;
}

static void put_assistant(struct jw *w, const struct json *content)
{
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
    if (json_is(content, JSON_STRING))
        buf_str(&text, content->str);
    else
        json_for_each (block, content) {
            if (is(block, "text"))
                block_text(&text, block);
        }
    begin(w, "assistant");
    /* A message that only thought keeps its place: roles alternate. */
    if (text.len == 0 && has_calls(content))
        jw_knull(w, "content");
    else
        jw_kstr(w, "content", text.len ? buf_view(&text) : STR(""));
    put_calls(w, content);
    jw_obj_end(w);
}

static void put_result(struct jw *w, const struct json *block)
{
    const struct json *content = json_get(block, "content");
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
    if (json_is_true(json_get(block, "is_error")))
        buf_z(&text, "The tool call failed.");
    if (json_is(content, JSON_STRING))
        add(&text, "\n\n", content->str);
    else
        json_for_each (piece, content) {
            if (is_media(piece))
                add(&text, "\n\n", STR("(it follows as a message of its own)"));
            else
                block_text(&text, piece);
        }
    begin(w, "tool");
    jw_kstr(w, "tool_call_id", json_get_str(block, "tool_use_id"));
    jw_kstr(w, "content", text.len ? buf_view(&text) : STR(""));
    jw_obj_end(w);
}

static bool has_media(const struct json *content)
{
    json_for_each (block, content) {
        if (is_media(block) || (is(block, "tool_result") && has_media(json_get(block, "content"))))
            return true;
    }
    return false;
}

/* What only a user may show: from a tool's result, with a word on where it is from. */
static void result_parts(struct jw *w, const struct json *block)
{
    const struct json *content = json_get(block, "content");
    if (!has_media(content))
        return;
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
    buf_z(&text, "From the result of tool call ");
    buf_str(&text, json_get_str(block, "tool_use_id"));
    buf_ch(&text, ':');
    text_part(w, buf_view(&text));
    json_for_each (piece, content) {
        if (is_media(piece))
            media_part(w, piece);
    }
}

static void put_user(struct jw *w, const struct json *content)
{
    bool rest = json_is(content, JSON_STRING), media = has_media(content);
    json_for_each (block, content) {
        if (is(block, "tool_result"))
            put_result(w, block);
        else
            rest = true;
    }
    if (!rest && !media)
        return;
    begin(w, "user");
    if (media) {
        jw_key(w, "content");
        jw_arr(w);
        json_for_each (block, content) {
            if (is(block, "tool_result"))
                result_parts(w, block);
            else
                block_part(w, block);
        }
        jw_arr_end(w);
    } else {
        /* One string: every server takes that, lists of parts not all. */
        AUTO_BUF struct buf text = BUF_INIT(LIMIT_PROMPT);
        if (json_is(content, JSON_STRING))
            buf_str(&text, content->str);
        json_for_each (block, content) {
            if (!is(block, "tool_result"))
                block_text(&text, block);
        }
        jw_kstr(w, "content", text.len ? buf_view(&text) : STR(""));
    }
    jw_obj_end(w);
}

static void put_tools(struct jw *w, const struct json *tools)
{
    if (!json_is(tools, JSON_ARRAY) || tools->count == 0)
        return;
    jw_key(w, "tools");
    jw_arr(w);
    json_for_each (tool, tools) {
        const struct json *description = json_get(tool, "description");
        const struct json *schema = json_get(tool, "input_schema");
        jw_obj(w);
        jw_kz(w, "type", "function");
        jw_key(w, "function");
        jw_obj(w);
        jw_kstr(w, "name", json_get_str(tool, "name"));
        if (description)
            jw_kraw(w, "description", description->raw);
        jw_kraw(w, "parameters",
                schema ? schema->raw : STR("{\"type\":\"object\",\"properties\":{}}"));
        jw_obj_end(w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

/* ---- the whole ---- */

static int parse(struct arena *a, struct str text, const char *what, const struct json **out,
                 struct err *err)
{
    *out = NULL;
    if (!str_some(text))
        return 0;
    int rc = json_parse(a, text, JSON_ALLOW_DUPLICATES, out, err);
    return rc ? err_wrap(err, "the %s of the request", what) : 0;
}

/* Limits and effort as far as they are known: a server's own defaults fit it better than a guess.
 */
static void put_settings(struct jw *w, const struct wire_request *r)
{
    int64_t max = r->req->max_tokens, most = r->info ? r->info->max_output_tokens : 0;
    if (max <= 0 || (most && max > most))
        max = most;
    if (max > 0) /* the older name is the one that other servers know */
        jw_ki64(w, r->published ? "max_completion_tokens" : "max_tokens", max);
    if (!r->info || strcmp(r->info->thinking, "adaptive") != 0)
        return;
    struct str effort = r->req->effort.len ? r->req->effort : str_z(r->info->default_effort);
    bool more = str_eqz(effort, "xhigh") || str_eqz(effort, "max");
    jw_kstr(w, "reasoning_effort", more ? STR("high") : effort);
}

int openai_body(const struct wire_request *r, struct buf *out, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *system, *tools, *messages;
    int rc = parse(&a, r->req->system, "system prompt", &system, err);
    rc = rc ? rc : parse(&a, r->req->tools, "tools", &tools, err);
    rc = rc ? rc : parse(&a, r->req->messages, "messages", &messages, err);
    if (rc)
        return rc;
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kstr(&w, "model", r->model);
    jw_kbool(&w, "stream", true);
    jw_kraw(&w, "stream_options", STR("{\"include_usage\":true}"));
    put_settings(&w, r);
    put_tools(&w, tools);
    /* Last: what a conversation adds, it adds at the end. */
    jw_key(&w, "messages");
    jw_arr(&w);
    put_system(&w, system);
    json_for_each (message, messages) {
        const struct json *content = json_get(message, "content");
        struct str role = json_get_str(message, "role");
        if (str_eqz(role, "assistant"))
            put_assistant(&w, content);
        else if (str_eqz(role, "system"))
            put_system(&w, content);
        else
            put_user(&w, content);
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    return 0;
}
