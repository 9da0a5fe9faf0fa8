/* openai: requests in the form of chat completions. Pure; any thread.
 */
#ifndef OSTLER_MODEL_OPENAI_H
#define OSTLER_MODEL_OPENAI_H

#include "model/provider.h"

/* The body of the request. The same request gives the same bytes, and a longer conversation the
 * same bytes up to where it grew (promise P9). PARSE when the conversation is not JSON in the form
 * of the Messages API. */
int openai_body(const struct wire_request *r, struct buf *out, struct err *err) MUST_USE;

#endif
