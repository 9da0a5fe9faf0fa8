/* event: the vocabulary of the session log: types, flags, one event as a value.
 *
 * Pure. Names are the wire's (SDK 1.11.0, resources/beta/sessions/events.ts). The numbers are
 * stored: append only, never reorder.
 */
#ifndef OSTLER_CORE_EVENT_H
#define OSTLER_CORE_EVENT_H

#include "base/id.h"
#include "base/str.h"

/* X(NAME, wire name) */
#define EVENT_MAP(X)                                                                               \
    X(USER_MESSAGE, "user.message")                                                                \
    X(USER_INTERRUPT, "user.interrupt")                                                            \
    X(USER_TOOL_CONFIRMATION, "user.tool_confirmation")                                            \
    X(USER_CUSTOM_TOOL_RESULT, "user.custom_tool_result")                                          \
    X(USER_TOOL_RESULT, "user.tool_result")                                                        \
    X(USER_DEFINE_OUTCOME, "user.define_outcome")                                                  \
    X(SYSTEM_MESSAGE, "system.message")                                                            \
    X(AGENT_MESSAGE, "agent.message")                                                              \
    X(AGENT_THINKING, "agent.thinking")                                                            \
    X(AGENT_TOOL_USE, "agent.tool_use")                                                            \
    X(AGENT_TOOL_RESULT, "agent.tool_result")                                                      \
    X(AGENT_CUSTOM_TOOL_USE, "agent.custom_tool_use")                                              \
    X(AGENT_MCP_TOOL_USE, "agent.mcp_tool_use")                                                    \
    X(AGENT_MCP_TOOL_RESULT, "agent.mcp_tool_result")                                              \
    X(AGENT_THREAD_CONTEXT_COMPACTED, "agent.thread_context_compacted")                            \
    X(AGENT_THREAD_MESSAGE_SENT, "agent.thread_message_sent")                                      \
    X(AGENT_THREAD_MESSAGE_RECEIVED, "agent.thread_message_received")                              \
    X(SESSION_STATUS_RUNNING, "session.status_running")                                            \
    X(SESSION_STATUS_IDLE, "session.status_idle")                                                  \
    X(SESSION_STATUS_RESCHEDULED, "session.status_rescheduled")                                    \
    X(SESSION_STATUS_TERMINATED, "session.status_terminated")                                      \
    X(SESSION_DELETED, "session.deleted")                                                          \
    X(SESSION_UPDATED, "session.updated")                                                          \
    X(SESSION_ERROR, "session.error")                                                              \
    X(SESSION_USAGE, "session.usage")                                                              \
    X(SESSION_THREAD_CREATED, "session.thread_created")                                            \
    X(SESSION_THREAD_STATUS_RUNNING, "session.thread_status_running")                              \
    X(SESSION_THREAD_STATUS_IDLE, "session.thread_status_idle")                                    \
    X(SESSION_THREAD_STATUS_RESCHEDULED, "session.thread_status_rescheduled")                      \
    X(SESSION_THREAD_STATUS_TERMINATED, "session.thread_status_terminated")                        \
    X(SPAN_MODEL_REQUEST_START, "span.model_request_start")                                        \
    X(SPAN_MODEL_REQUEST_END, "span.model_request_end")                                            \
    X(SPAN_OUTCOME_EVALUATION_START, "span.outcome_evaluation_start")                              \
    X(SPAN_OUTCOME_EVALUATION_ONGOING, "span.outcome_evaluation_ongoing")                          \
    X(SPAN_OUTCOME_EVALUATION_END, "span.outcome_evaluation_end")                                  \
    X(WORKFLOW_RUN_CREATED, "workflow_run.created")                                                \
    X(WORKFLOW_RUN_STATUS_RUNNING, "workflow_run.status_running")                                  \
    X(WORKFLOW_RUN_STATUS_IDLE, "workflow_run.status_idle")                                        \
    X(WORKFLOW_RUN_STATUS_ENDED, "workflow_run.status_ended")                                      \
    X(WORKFLOW_RUN_ERROR, "workflow_run.error")                                                    \
    X(WORKFLOW_RUN_PHASE_STARTED, "workflow_run.phase_started")                                    \
    X(WORKFLOW_RUN_PHASE_ENDED, "workflow_run.phase_ended")

enum event_type {
    EVENT_NONE,
#define X(name, wire) EVENT_##name,
    EVENT_MAP(X)
#undef X
        EVENT_TYPE_COUNT
};

struct event {
    int64_t seq; /* 1, 2, 3, ... within the session; 0: not appended yet (inbox) */
    enum event_type type;
    struct id id;
    int64_t processed_us;  /* unix microseconds; 0: null on the wire (queued) */
    struct str body;       /* the exact JSON text that is served */
    struct str transcript; /* private bytes the body does not hold (thinking blocks); or absent */
};

const char *event_name(enum event_type t);
enum event_type event_type_of(struct str wire_name); /* EVENT_NONE when unknown */

#endif
