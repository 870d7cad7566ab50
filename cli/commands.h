/* The commands of the program; each returns its exit status. */
#ifndef TANDEM_CLI_COMMANDS_H
#define TANDEM_CLI_COMMANDS_H

#include "cli/options.h"
#include "lib/version.h"

int command_serve(const struct options *o);
int command_run(const struct options *o);
int command_inspect(const struct options *o);
int command_list(const struct options *o);
int command_pull(const struct options *o);
int command_rm(const struct options *o);
int command_search(const struct options *o);
int command_alias(const struct options *o);
int command_bench(const struct options *o);
int command_bench_kernels(const struct options *o);
int command_bench_serve(const struct options *o);
int command_quantize(const struct options *o);
int command_convert(const struct options *o);
int command_eval(const struct options *o);
int command_engine(const struct options *o);
int command_version(void);

/* Prints "tandem: message" on standard error; returns the error's exit status. */
int command_fail(const struct error *err);

#endif
