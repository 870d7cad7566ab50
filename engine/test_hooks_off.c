/* Compiled when TANDEM_TEST_HOOKS is off. */
#include "engine/engine_internal.h"

bool engine__test_hooks(void)
{
    return false;
}
