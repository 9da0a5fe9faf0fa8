/* fuzz_anthropic_stream: answers of Messages API; fuzz_answer.h says what must hold. */
#include "fuzz_answer.h"

#include "model/anthropic_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_answer(&anthropic_decoder, data, size);
}
