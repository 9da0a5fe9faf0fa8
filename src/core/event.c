#include "core/event.h"

static const char *const names[EVENT_TYPE_COUNT] = {[EVENT_NONE] = "",
#define X(name, wire) [EVENT_##name] = wire,
                                                    EVENT_MAP(X)
#undef X
};

const char *event_name(enum event_type t)
{
    return t > EVENT_NONE && t < EVENT_TYPE_COUNT ? names[t] : "";
}

enum event_type event_type_of(struct str wire_name)
{
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_COUNT; t++)
        if (str_eqz(wire_name, names[t]))
            return (enum event_type)t;
    return EVENT_NONE;
}
