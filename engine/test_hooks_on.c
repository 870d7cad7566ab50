/* Compiled when TANDEM_TEST_HOOKS is on. */
#include "engine/engine_internal.h"

bool engine__test_hooks(void)
{
    return true;
}
