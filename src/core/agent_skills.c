/* The skills of a session in its system prompt: what there is and where, so that the model reads
 * the rest when it needs it. The text depends on the provision alone: a request after a resume has
 * the same bytes. */
#include "core/agent.h"

#include "json/writer.h"

static const char intro[] =
    "Skills are folders of instructions, scripts and other material for certain kinds of work. "
    "When a task falls under the description of one of these, read its SKILL.md with the read "
    "tool before you begin, and from there what it points to; leave the others unread.\n";

int agent_provide(struct arena *a, struct str provision, struct agent *ag, struct err *err)
{
    const struct json *doc;
    ag->skills = NULL;
    if (!str_some(provision))
        return 0;
    int rc = json_parse(a, provision, 0, &doc, err);
    if (rc)
        return rc;
    const struct json *skills = json_get(doc, "skills");
    if (json_is(skills, JSON_ARRAY) && skills->count > 0)
        ag->skills = skills;
    return 0;
}

int agent_place(struct arena *a, struct str environment, struct agent *ag, struct err *err)
{
    const struct json *config;
    ag->self_hosted = false;
    if (!str_some(environment))
        return 0;
    int rc = json_parse(a, environment, 0, &config, err);
    if (rc == 0)
        ag->self_hosted = str_eqz(json_get_str(config, "type"), "self_hosted");
    return rc;
}

/* On one line, so that no description passes for another entry of the list. */
static void put_line(struct buf *out, struct str s)
{
    bool blank = false;
    s = str_trim(s);
    for (size_t i = 0; i < s.len; i++) {
        bool space = (unsigned char)s.ptr[i] <= ' ';
        if (!space)
            buf_ch(out, s.ptr[i]);
        else if (!blank)
            buf_ch(out, ' ');
        blank = space;
    }
}

bool agent_has_skills(const struct agent *ag)
{
    return ag->skills && ag->tools[TOOL_READ].offered;
}

void agent_write_skills(const struct agent *ag, struct buf *out)
{
    buf_z(out, intro);
    json_for_each (skill, ag->skills) {
        struct str name = json_get_str(skill, "name"), path = json_get_str(skill, "path");
        if (!name.len)
            continue;
        buf_z(out, "\n- ");
        put_line(out, name);
        buf_z(out, " (");
        if (path.len) {
            put_line(out, path);
        } else {
            /* Elsewhere it is below the directory that the tools start in. */
            buf_z(out, ag->self_hosted ? "skills/" : "/workspace/skills/");
            put_line(out, name);
            buf_z(out, "/SKILL.md");
        }
        buf_z(out, "): ");
        put_line(out, json_get_str(skill, "description"));
    }
}
