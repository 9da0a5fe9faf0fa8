/* openai_stream: what the chunks of a chat completion mean, as a stream or as one JSON document, as
 * the servers in use really send them. Pure; its state is the answer's. Loop thread.
 */
#ifndef OSTLER_MODEL_OPENAI_STREAM_H
#define OSTLER_MODEL_OPENAI_STREAM_H

#include "model/answer.h"

extern const struct answer_decoder openai_decoder;

#endif
