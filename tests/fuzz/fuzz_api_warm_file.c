/* Files of warm prompts: whatever is read has prompts of one kind each, with the line that it came from. */
#include "api/warm_file.h"

#include "base/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct warm_list list;
    struct error err = {0};
    if (!warm_file_parse((struct str){(const char *)data, size}, &list, &err)) {
        if (err.code == ERR_NONE || !err.msg[0] || list.n) {
            abort();
        }
        return 0;
    }
    for (size_t i = 0; i < list.n; i++) {
        const struct warm_prompt *p = &list.items[i];
        if (p->line < 1 || (p->messages != NULL) == (p->text.len > 0) || (i > 0 && p->line < p[-1].line)) {
            abort();
        }
    }
    if (list.n == 0 || list.n > LIMIT_WARM_PROMPTS) {
        abort();
    }
    warm_list_release(&list);
    return 0;
}
