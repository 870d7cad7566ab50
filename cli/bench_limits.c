#include "cli/bench_limits.h"

#include "base/pool.h"
#include "base/sys_cpu.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

bool bench_threads_parse(const char *text, const char *fallback, struct bench_list *out, struct error *err)
{
    struct bench_range range = {"--threads", 0, POOL_MAX_THREADS};
    int usable = sys_cpu_usable();
    if (!bench_list_parse(text && strcmp(text, "0") != 0 ? text : fallback, &range, out, err)) {
        return false;
    }
    int n = 0;
    for (int i = 0; i < out->n; i++) {
        int threads = out->items[i] ? out->items[i] : usable;
        bool known = false;
        for (int k = 0; k < n; k++) {
            known = known || out->items[k] == threads;
        }
        if (!known) {
            out->items[n++] = threads;
        }
    }
    out->n = n;
    return true;
}

bool bench_limits_measure(const struct cpu_backend_options *cpu, const struct bench_list *threads,
                          struct bench_limits *out, struct error *err)
{
    out->n = 0;
    for (int i = 0; i < threads->n; i++) {
        struct cpu_backend_options o = *cpu;
        o.n_threads = threads->items[i];
        if (!cpu_limits_measure(&o, &out->of[out->n], err)) {
            return false;
        }
        out->n++;
    }
    return true;
}

const struct cpu_limits *bench_limits_of(const struct bench_limits *l, int n_threads)
{
    for (int i = 0; i < l->n; i++) {
        if (l->of[i].n_threads == n_threads) {
            return &l->of[i];
        }
    }
    return NULL;
}

void bench_limits_print(const struct bench_limits *l, const struct options *o)
{
    char cpu[128];
    bool taken = (o->json_file && strcmp(o->json_file, "-") == 0) || (o->csv_file && strcmp(o->csv_file, "-") == 0);
    FILE *out = taken ? stderr : stdout;
    fprintf(out, "%s\n%s, %d usable\n", tandem_build(), sys_cpu_name(cpu, sizeof cpu), sys_cpu_usable());
    for (int i = 0; i < l->n; i++) {
        const double *rate = l->of[i].per_second;
        fprintf(out, "limits of %d thread%s: read %.1f GB/s; int8 %.1f, int4 %.1f, f32 %.1f G multiply-adds/s\n",
                l->of[i].n_threads, l->of[i].n_threads == 1 ? "" : "s", rate[CPU_LIMIT_READ] / 1e9,
                rate[CPU_LIMIT_INT8] / 1e9, rate[CPU_LIMIT_INT4] / 1e9, rate[CPU_LIMIT_F32] / 1e9);
    }
    fputs(l->n > 0 ? l->of[0].kernels : "", out);
    for (int k = CPU_LIMIT_INT8; l->n > 0 && k < CPU_LIMIT_COUNT; k++) {
        fprintf(out, "%s %s: %s", k > CPU_LIMIT_INT8 ? ";" : ":", cpu_limit_info(k)->name, l->of[0].how[k]);
    }
    fputs("\n\n", out);
}

void bench_limits_put(const struct bench_limits *l, struct json_writer *w)
{
    char cpu[128];
    json_member_cstr(w, "build", tandem_build());
    json_member_cstr(w, "cpu", sys_cpu_name(cpu, sizeof cpu));
    json_member_cstr(w, "kernels", l->n > 0 ? l->of[0].kernels : NULL);
    json_key(w, "limits");
    json_begin_array(w);
    for (int i = 0; i < l->n; i++) {
        json_begin_object(w);
        json_member_int(w, "threads", l->of[i].n_threads);
        for (int k = 0; k < CPU_LIMIT_COUNT; k++) {
            char key[32];
            snprintf(key, sizeof key, "%s_per_s", cpu_limit_info(k)->name);
            json_member_double(w, key, l->of[i].per_second[k]);
        }
        json_end_object(w);
    }
    json_end_array(w);
}
