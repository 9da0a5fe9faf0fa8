#include "egress/reason.h"

static const struct {
    const char *name;
    bool denied;
} reasons[] = {
#define X(id, text, refusal) [EGRESS_##id] = {text, refusal},
    EGRESS_REASON_MAP(X)
#undef X
};

const char *egress_reason_name(enum egress_reason r)
{
    return reasons[r].name;
}

bool egress_reason_denied(enum egress_reason r)
{
    return reasons[r].denied;
}
