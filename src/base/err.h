/* err: the one error type of the program.
 *
 * A value, never allocated; any thread. A function that can fail takes a `struct err *` last,
 * returns 0 or the negative code it stored there, and leaves its out-parameters alone on failure.
 * `code` comes from ERR_MAP, which also gives the API error type, the HTTP status and the table in
 * docs/errors.md.
 */
#ifndef OSTLER_BASE_ERR_H
#define OSTLER_BASE_ERR_H

#include <stdbool.h>

/* X(name, API error type, HTTP status, meaning) */
#define ERR_MAP(X)                                                                                 \
    X(INVALID, "invalid_request_error", 400, "the request is wrong; `at` names the field")         \
    X(AUTH, "authentication_error", 401, "no valid credential")                                    \
    X(BILLING, "billing_error", 402, "the provider refuses for lack of credit")                    \
    X(PERMISSION, "permission_error", 403, "the credential does not allow this")                   \
    X(NOT_FOUND, "not_found_error", 404, "no such object or route")                                \
    X(METHOD, "invalid_request_error", 405, "the route exists, the method does not")               \
    X(TIMEOUT_REQUEST, "timeout_error", 408, "the client sent its request too slowly")             \
    X(CONFLICT, "conflict_error", 409, "the object is not in the state the request expects")       \
    X(PRECONDITION, "invalid_request_error", 412, "a stated precondition does not hold")           \
    X(TOO_LARGE, "request_too_large", 413, "a body, field or result is over its limit")            \
    X(HEADERS_TOO_LARGE, "request_too_large", 431, "the request head is over its limit")           \
    X(RATE_LIMIT, "rate_limit_error", 429, "too many requests")                                    \
    X(INTERNAL, "api_error", 500, "a defect or an environment failure on the server")              \
    X(NOT_IMPLEMENTED, "invalid_request_error", 501, "a transfer coding or method not supported")  \
    X(UNAVAILABLE, "api_error", 503, "the server cannot serve this now; retry later")              \
    X(TIMEOUT, "timeout_error", 504, "something waited for did not come in time")                  \
    X(OVERLOADED, "overloaded_error", 529, "the server or the provider is overloaded")             \
    X(IO, "api_error", 500, "a system call failed; `sys` is its errno")                            \
    X(NO_SPACE, "api_error", 507, "the disk is full")                                              \
    X(READ_ONLY, "api_error", 500, "the data directory is read-only")                              \
    X(CORRUPT, "api_error", 500, "stored data is damaged")                                         \
    X(FENCED, "conflict_error", 409, "another owner took the session over")                        \
    X(CANCELED, "api_error", 500, "the operation was cancelled")                                   \
    X(LIMIT, "request_too_large", 413, "an internal bound of base/limits.h was reached")           \
    X(PARSE, "invalid_request_error", 400, "the bytes do not follow their grammar")                \
    X(EXISTS, "conflict_error", 409, "an object of that name exists")                              \
    X(PROTOCOL, "api_error", 502, "the peer does not follow the protocol")                         \
    X(CONNECT, "api_error", 502, "the peer cannot be reached")

enum err_index {
    ERR_INDEX_OK,
#define X(name, type, status, text) ERR_INDEX_##name,
    ERR_MAP(X)
#undef X
        ERR_INDEX_COUNT
};

enum err_code {
    ERR_OK = 0,
#define X(name, type, status, text) ERR_##name = -(ERR_INDEX_##name),
    ERR_MAP(X)
#undef X
};

#define ERR_AT_MAX 64
#define ERR_MSG_MAX 320

struct err {
    int code;            /* 0 or an enum err_code */
    int sys;             /* errno, where a system call failed; else 0 */
    const char *detail;  /* the API's details.error_code, a string constant; or NULL */
    char at[ERR_AT_MAX]; /* JSON pointer ("/events/0/type"), header or option at fault; or "" */
    char msg[ERR_MSG_MAX];
};

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Each stores an error and returns its code. `e` may be NULL. Messages end without a full stop. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
int err_at(struct err *e, int code, const char *at, const char *fmt, ...) PRINTF(4, 5);
/* Appends ": <strerror>" and picks NO_SPACE or READ_ONLY over IO where errno says so. */
int err_sys(struct err *e, int sys, const char *fmt, ...) PRINTF(3, 4);
/* Puts "outer: " before the message of an error that is already set. Returns its code. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF(2, 3);

const char *err_name(int code);     /* "INVALID" */
const char *err_api_type(int code); /* "invalid_request_error" */
int err_http_status(int code);      /* 400 */

#endif
