/* Qwen2.5-Coder-0.5B-Instruct against transformers, see tests/support/model_real.h. */
#include "tests/support/model_real.h"

int main(void)
{
    return real_model_main("qwen2.5-coder");
}
