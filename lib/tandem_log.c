/* The log of the library: silent until somebody wants to hear it. */
#include "include/tandem.h"

#include "base/log.h"

static void drop(void *arg, int level, const char *line, size_t size)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)size;
}

/* The log that the program has writes to standard error from the start; a library may not. */
__attribute__((constructor)) static void be_silent(void)
{
    tandem_set_log(TANDEM_LOG_ERROR, NULL, NULL);
}

void tandem_set_log(enum tandem_log_level level, tandem_log_fn *log, void *arg)
{
    enum log_level up_to = level < TANDEM_LOG_DEBUG ? (enum log_level)level : LOG_LEVEL_DEBUG;
    log_init(&(struct log_options){
        .level = log ? up_to : LOG_LEVEL_ERROR, .fd = 2, .write = log ? log : drop, .write_arg = arg});
}
