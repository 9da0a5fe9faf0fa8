/* anthropic_stream: what the events of the Messages API mean, as a stream or as one JSON message.
 * Pure; its state is the answer's. Loop thread.
 */
#ifndef OSTLER_MODEL_ANTHROPIC_STREAM_H
#define OSTLER_MODEL_ANTHROPIC_STREAM_H

#include "model/answer.h"

extern const struct answer_decoder anthropic_decoder;

#endif
