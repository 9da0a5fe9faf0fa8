#include "api/skill_refs.h"

#include "api/compact.h"
#include "json/decode.h"

static int absent(const char *at, struct str id, struct str version, struct err *err)
{
    json_fail(err, at, str_eqz(version, SKILL_LATEST) ? "skill_id" : "version",
              "Skill '" STR_FMT "' does not exist or has no version '" STR_FMT "'",
              STR_ARG(str_utf8_take(id, 64)), STR_ARG(str_utf8_take(version, 64)));
    err->code = ERR_NOT_FOUND;
    return ERR_NOT_FOUND;
}

static int find_one(struct store_tx *tx, struct str ws, const struct json *v, const char *at,
                    struct arena *a, struct skill_refs *out, struct err *err)
{
    struct str id = json_get_str(v, "skill_id"), version = json_get_str(v, "version");
    struct skill_version_row *row = &out->rows[out->n];
    int rc = tx_skill_version_get(tx, ws, id, version, a, row, err);
    if (rc == ERR_NOT_FOUND)
        return absent(at, id, version, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < out->n; i++)
        if (str_eq(out->rows[i].name, row->name))
            return json_fail(err, at, "skill_id",
                             "Another skill of this agent is called '" STR_FMT
                             "' as well; an agent has one of a name",
                             STR_ARG(row->name));
    out->n++;
    return 0;
}

int skill_refs_find(struct store_tx *tx, struct str ws, struct str skills, const char *at,
                    struct arena *a, struct skill_refs *out, struct err *err)
{
    const struct json *doc;
    *out = (struct skill_refs){0};
    int rc = json_parse(a, skills, 0, &doc, err);
    if (rc)
        return err_set(err, ERR_CORRUPT, "A stored agent definition cannot be read");
    out->rows = ARENA_ARRAY(a, struct skill_version_row, doc->count + 1);
    if (!out->rows)
        return err_set(err, ERR_LIMIT, "The object is too large");
    size_t i = 0;
    json_for_each (v, doc) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, at, i++);
        rc = find_one(tx, ws, v, where, a, out, err);
        if (rc)
            return rc;
    }
    return 0;
}

int skill_refs_snapshot(const struct skill_refs *refs, struct arena *a, struct str *out,
                        struct err *err)
{
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    jw_arr(&w);
    for (size_t i = 0; i < refs->n; i++) {
        jw_obj(&w);
        jw_kz(&w, "type", "custom");
        jw_kstr(&w, "skill_id", id_str(&refs->rows[i].skill_id));
        jw_kstr(&w, "version", id_str(&refs->rows[i].id));
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    return compact_keep(a, &b, out, err);
}

void skills_provision(const struct skill_refs *refs, struct jw *w)
{
    jw_arr(w);
    for (size_t i = 0; i < refs->n; i++) {
        const struct skill_version_row *row = &refs->rows[i];
        jw_obj(w);
        jw_kstr(w, "id", id_str(&row->skill_id));
        jw_kstr(w, "version", id_str(&row->id));
        jw_kstr(w, "name", row->name);
        jw_kstr(w, "description", row->description);
        jw_kstr(w, "blob", row->blob);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

int skill_refs_hold(struct store_tx *tx, int64_t session_key, const struct skill_refs *refs,
                    struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < refs->n; i++)
        rc = tx_session_blob_add(tx, session_key, refs->rows[i].blob, err);
    return rc;
}
