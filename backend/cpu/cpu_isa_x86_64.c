/* Kernel tables of x86-64, best first. */
#include "backend/cpu/cpu_kernels.h"

const struct cpu_kernel_table *const cpu__tables[] = {&cpu__avx512_table, &cpu__avx2_table, &cpu__reference_table,
                                                      NULL};
