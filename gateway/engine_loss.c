#include "gateway/engine_loss.h"

#include <signal.h>

static const struct engine_loss_info table[] = {
#define X(id, name, resumed, shrinks) {name, resumed, shrinks},
    ENGINE_LOSS_TABLE(X)
#undef X
};

const struct engine_loss_info *engine_loss_info(enum engine_loss loss)
{
    return &table[loss < LOSS_COUNT ? loss : LOSS_EXIT];
}

enum engine_loss engine_loss_of(const struct engine_end *end)
{
    if (end->given_up != LOSS_COUNT) {
        return end->given_up;
    }
    if (end->said_fatal) {
        return end->was_ready ? LOSS_DEVICE : LOSS_START;
    }
    if (end->signal == SIGKILL && end->out_of_memory) {
        return LOSS_MEMORY;
    }
    return end->signal ? LOSS_SIGNAL : LOSS_EXIT;
}
