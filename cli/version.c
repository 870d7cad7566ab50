#include "cli/commands.h"

#include "backend/backend.h"
#include "base/sys_cpu.h"
#include "base/sys_memory.h"

#include <stdio.h>

int command_version(void)
{
    struct error err = {0};
    char cpu[128];
    struct sys_memory memory = sys_memory();
    struct cpu_backend_options options = {.kernels = CPU_KERNELS_AUTO, .spin_us = -1};
    struct backend *be = cpu_backend_create(&options, &err);
    struct error no_mlx = {0};
    bool mlx = mlx_backend_available(&no_mlx);
    printf("%s\nprocessor: %s, %d usable\nmemory: %.1f GiB, %.1f GiB available\nbackend: %s\nbackend: %s%s\n",
           tandem_build(), sys_cpu_name(cpu, sizeof cpu), sys_cpu_usable(), (double)memory.total / (1 << 30),
           (double)memory.available / (1 << 30), be ? be->ops->describe(be) : err.msg, mlx ? "mlx " : "",
           mlx ? mlx_backend_version() : no_mlx.msg);
    if (be) {
        be->ops->free(be);
    }
    return 0;
}
