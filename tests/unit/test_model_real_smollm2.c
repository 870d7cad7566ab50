/* SmolLM2-135M-Instruct against transformers, see tests/support/model_real.h. */
#include "tests/support/model_real.h"

int main(void)
{
    return real_model_main("smollm2");
}
