/* fuzz_openai_stream: answers of chat completions; fuzz_answer.h says what must hold. */
#include "fuzz_answer.h"

#include "model/openai_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_answer(&openai_decoder, data, size);
}
