/* Kernel tables of arm64, best first. Processors without the dot product instructions (before 2017) run the reference.
 */
#include "backend/cpu/cpu_kernels.h"

const struct cpu_kernel_table *const cpu__tables[] = {&cpu__neon_i8mm_table, &cpu__neon_table, &cpu__reference_table,
                                                      NULL};
