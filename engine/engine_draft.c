/* Loading a draft model: its file, a backend of the same kind beside the model's (on the cpu with the same threads),
 * and a pool of its own for K and V. What it says of a token must mean the same token, so the vocabularies are
 * compared. */
#include "engine/engine_internal.h"

#include "base/sys_shm.h"
#include "engine/drafter_model.h"

#include <stdlib.h>

#define POOL_SHARE 8 /* of the model's KV memory, unless told otherwise */

struct loaded_draft {
    struct model_file *file;
    struct backend *be;
    struct model *model;
    struct shm pool;
    struct decoder_config decoder;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    int n_groups;
};

static void release(void *resources)
{
    struct loaded_draft *l = resources;
    model_free(l->model);
    if (l->be) {
        l->be->ops->free(l->be);
    }
    model_file_close(l->file);
    shm_release(&l->pool);
    free(l);
}

/* ---- vocabularies ---- */

/* Padding that converters add for the sake of the embedding's size does not count. */
static int32_t n_used(const struct tokenizer *t)
{
    int32_t n = tokenizer_n_vocab(t);
    while (n > 0 && tokenizer_kind(t, n - 1) == TOKEN_UNUSED) {
        n--;
    }
    return n;
}

static bool same_vocabulary(const struct tokenizer *target, const struct tokenizer *draft, struct error *err)
{
    int32_t n = n_used(target);
    if (n_used(draft) != n) {
        return error_set(err, ERR_INVALID,
                         "The draft model has a vocabulary of %d tokens, the model one of %d; they must have the same "
                         "tokenizer.",
                         n_used(draft), n);
    }
    for (int32_t id = 0; id < n; id++) {
        struct str a = tokenizer_piece(target, id), b = tokenizer_piece(draft, id);
        if (!str_eq(a, b)) {
            return error_set(err, ERR_INVALID,
                             "Token %d of the draft model is '" STR_FMT "', that of the model '" STR_FMT
                             "'; they must have the same tokenizer.",
                             id, STR_ARG(str_slice(b, 0, 40)), STR_ARG(str_slice(a, 0, 40)));
        }
    }
    return true;
}

static bool check_vocabulary(const struct loaded_draft *l, const struct tokenizer *target, struct error *err)
{
    struct tokenizer *draft = tokenizer_from_model_file(l->file, err);
    bool ok = draft && same_vocabulary(target, draft, err);
    tokenizer_free(draft);
    return ok;
}

/* ---- loading ---- */

/* Guesses are taken back when they are wrong. */
static bool check_states(const struct loaded_draft *l, struct error *err)
{
    return !decoder_has_states(&l->decoder) ||
           error_set(err, ERR_UNSUPPORTED,
                     "A model of the architecture %s guesses no tokens: its layers keep states, which cannot be taken "
                     "back behind a wrong guess.",
                     l->decoder.arch);
}

static bool open_backend(struct loaded_draft *l, const struct engine_options *o, struct backend *target,
                         struct error *err)
{
    struct backend_options options = o->backend;
    bool cpu = strcmp(target->ops->name, "cpu") == 0;
    options.kind = cpu ? BACKEND_CPU : BACKEND_MLX;
    options.cpu.threads_of = cpu ? target : NULL;
    l->be = backend_create(&options, err);
    return l->be != NULL;
}

static bool load_weights(struct loaded_draft *l, const struct engine_options *o, struct error *err)
{
    struct model_load_options options = {.config = &l->decoder, .kv_type = o->kv_type};
    l->model = model_load(l->be, l->file, &options, err);
    return l->model != NULL;
}

static bool bind_pool(struct loaded_draft *l, const struct engine_options *o, size_t size, struct error *err)
{
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    l->n_groups = decoder_kv_groups(&l->decoder, o->kv_type, l->groups, layer_group, layer_index);
    for (int g = 0; g < l->n_groups; g++) {
        l->groups[g].base = 0; /* as in engine_load.c */
    }
    return shm_create(size, "tandem-draft-kv", &l->pool, err) &&
           l->be->ops->kv_bind(l->be, l->groups, l->n_groups, l->pool.data, size, err);
}

static struct drafter *make_drafter(struct loaded_draft *l, const struct engine_config *config, size_t pool_size,
                                    struct error *err)
{
    struct model_drafter_options d = {
        .executor = executor_model_create(l->be, l->model, err),
        .geometry = {.n_groups = l->n_groups, .pool_size = pool_size},
        .page_tokens = (uint32_t)l->be->ops->kv_page_tokens(l->be),
        .n_context = l->decoder.n_context > 0 ? (uint32_t)l->decoder.n_context : config->n_context,
        .n_vocab = (uint32_t)l->decoder.n_vocab,
        .max_sequences = config->max_sequences,
        .max_rows = config->max_batch_tokens,
        .n_target_vocab = config->n_vocab,
        .release = release,
        .resources = l,
    };
    for (int g = 0; g < l->n_groups; g++) {
        d.geometry.page_size[g] = l->be->ops->kv_page_size(l->be, &l->groups[g]);
    }
    if (!d.executor) {
        release(l);
        return NULL;
    }
    return model_drafter_create(&d, err);
}

struct drafter *engine__load_draft(const struct engine_options *o, const struct engine_config *config,
                                   struct backend *be, const struct tokenizer *tokenizer, uint64_t *weights_size,
                                   struct error *err)
{
    size_t pool_size = o->draft_pool_size ? o->draft_pool_size : o->pool_size / POOL_SHARE;
    struct drafter *d = NULL;
    struct loaded_draft *l = calloc(1, sizeof *l);
    if (!l) {
        error_set(err, ERR_NO_MEMORY, "There is no memory to load a draft model.");
        return NULL;
    }
    l->pool.fd = -1;
    if ((l->file = model_file_open(o->draft_model_path, err)) && decoder_config_read(l->file, &l->decoder, err) &&
        check_states(l, err) && check_vocabulary(l, tokenizer, err) && open_backend(l, o, be, err) &&
        load_weights(l, o, err) && bind_pool(l, o, pool_size, err)) {
        *weights_size += model_resident_size(l->model);
        d = make_drafter(l, config, pool_size, err);
    } else {
        release(l);
    }
    if (!d) {
        error_wrap(err, "draft model '%s'", o->draft_model_path);
    }
    return d;
}
