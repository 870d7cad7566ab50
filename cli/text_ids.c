#include "cli/text_ids.h"

#include "base/limits.h"
#include "base/sys_file.h"

#define TEXT_MAX MIB(256)

bool text_ids_read(const struct model_file *file, const char *path, struct token_list *ids, int32_t *bos,
                   struct error *err)
{
    struct buf text;
    if (!file_read(path, TEXT_MAX, &text, err)) {
        return false;
    }
    struct tokenizer *t = tokenizer_from_model_file(file, err);
    bool ok = t && tokenizer_encode(t, buf_view(&text), (struct encode_options){0}, ids, err);
    if (ok && bos) {
        *bos = tokenizer_special(t)->add_bos ? tokenizer_special(t)->bos : -1;
    }
    if (ok && ids->n == 0) {
        ok = error_set(err, ERR_INVALID, "'%.120s' holds no text.", path);
    }
    tokenizer_free(t);
    buf_release(&text);
    return ok;
}
