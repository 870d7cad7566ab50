/* Compiled when TANDEM_TEST_HOOKS is off. */
#include "engine/fault.h"

bool fault_create(const char *spec, struct fault **out, struct error *err)
{
    *out = NULL;
    return !spec || !*spec ||
           error_set(err, ERR_UNSUPPORTED,
                     "--fault makes things go wrong on purpose, in test builds only; this is not one.");
}

struct fault *fault_for_replay(const struct fault *f)
{
    (void)f;
    return NULL;
}

void fault_free(struct fault *f)
{
    (void)f;
}

void fault_start(struct fault *f)
{
    (void)f;
}

struct executor *fault_executor_create(struct executor *x, struct fault *f, struct error *err)
{
    (void)f;
    (void)err;
    return x;
}

enum fault_frame fault_frame(struct fault *f)
{
    (void)f;
    return FAULT_FRAME_NONE;
}
