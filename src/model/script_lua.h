/* script_lua: what the files around the Lua state share. Internal to script_*.c.
 *
 * Every function that takes a lua_State may leave by a Lua error (longjmp), past C frames: so
 * nothing here owns memory on its stack. What must be freed hangs on `struct script_state`, what
 * need not be freed lives in its arena.
 */
#ifndef OSTLER_MODEL_SCRIPT_LUA_H
#define OSTLER_MODEL_SCRIPT_LUA_H

#include "json/json.h"
#include "model/script_run.h"

#include <lauxlib.h>
#include <lua.h>

struct script_state {
    const struct model_request *req;
    struct arena *arena;
    struct buf scratch;          /* JSON being written */
    const struct json *messages; /* parsed on first use */
    uint64_t instructions;
    size_t memory_bytes, churn_bytes;
    struct script_reply *reply;
};

static inline struct script_state *script_state_of(lua_State *L)
{
    struct script_state *s;
    memcpy(&s, lua_getextraspace(L), sizeof s);
    return s;
}

/* ---- script_json.c ---- */
void script_json_open(lua_State *L);                       /* the global `json` */
void script_json_push(lua_State *L, const struct json *v); /* NULL pushes nil */
/* Writes the value at `at` as JSON text into the arena. */
struct str script_json_text(lua_State *L, int at);
/* Pushes a sequence of the table's keys: numbers, then strings, each in order. */
void script_sorted_keys(lua_State *L, int at);

/* ---- script_request.c ---- */
void script_request_push(lua_State *L);

/* ---- script_aside.c: the global `aside` ---- */
int script_aside(lua_State *L);

/* ---- script_reply.c ---- */
void script_reply_read(lua_State *L, int at);

static inline void script_push(lua_State *L, struct str s)
{
    lua_pushlstring(L, s.ptr ? s.ptr : "", s.len);
}

#endif
