/* Kernel tables of arm64, best first. */
#include "backend/cpu/cpu_kernels.h"

const struct cpu_kernel_table *const cpu__tables[] = {&cpu__reference_table, NULL};
