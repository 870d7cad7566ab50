/* Tests of kernels on an emulated processor (tools/avx512_check.py), which is a hundred times slower. The environment's
 * TANDEM_TEST_KERNELS names the kernel set that is tested there: that one alone, on fewer sizes; and it is an error
 * that the processor lacks it or would choose another by itself. Elsewhere every set that the processor has is tested,
 * and with TANDEM_TEST_EMULATED (tools/arm64_check.py) on fewer sizes too. */
#ifndef TANDEM_TESTS_SUPPORT_EMULATED_H
#define TANDEM_TESTS_SUPPORT_EMULATED_H

#include "backend/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static inline bool emulated(void)
{
    return getenv("TANDEM_TEST_KERNELS") != NULL || getenv("TANDEM_TEST_EMULATED") != NULL;
}

static inline bool kernels_required(enum cpu_kernels kernels)
{
    enum cpu_kernels named;
    struct error err = {0};
    if (!getenv("TANDEM_TEST_KERNELS"))
        return false;
    if (!cpu_kernels_parse(getenv("TANDEM_TEST_KERNELS"), &named, &err))
        fail_msg("TANDEM_TEST_KERNELS: %s", err.msg);
    return named == kernels;
}

static inline bool kernels_wanted(enum cpu_kernels kernels)
{
    return !getenv("TANDEM_TEST_KERNELS") || kernels_required(kernels);
}

#endif
