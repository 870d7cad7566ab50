/* engine_create: model file, configuration, backend, weights, pool, in this order; and what the engine says of itself.
 */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_shm.h"
#include "engine/fault.h"
#include "engine/script.h"
#include "tensor/group_packed.h"

#include <stdio.h>
#include <stdlib.h>

#define EOG_MAX 256

/* What the executor stands on. */
struct loaded {
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct backend *be;
    struct model *model; /* NULL with a script */
    struct shm pool;     /* the engine's own, when nobody gave one */
    int32_t eog_ids[EOG_MAX];
    struct decoder_config decoder;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    int n_groups;
    uint8_t digest[SHA256_SIZE];
};

struct engine_options engine_options_default(void)
{
    return (struct engine_options){
        .backend = {.cpu = {.spin_us = -1}},
        .kv_type = KV_F16,
        .prefix_cache = true,
        .reserve_output = true,
        .speculation = SPECULATION_AUTO,
        .max_itl_factor = ENGINE_DEFAULT_ITL_FACTOR,
        .replay = true,
        .build = "",
    };
}

static void release(void *resources)
{
    struct loaded *l = resources;
    model_free(l->model);
    if (l->be) {
        l->be->ops->free(l->be);
    }
    tokenizer_free(l->tokenizer);
    model_file_close(l->file);
    shm_release(&l->pool);
    free(l);
}

/* ---- steps of loading ---- */

static bool open_file(struct loaded *l, const struct engine_options *o, struct error *err)
{
    l->file = model_file_open(o->model_path, err);
    if (!l->file) {
        return false;
    }
    for (int i = 0; i < o->n_overrides; i++) {
        if (!model_file_override(l->file, o->overrides[i], err)) {
            return false;
        }
    }
    model_file_digest(l->file, l->digest);
    if (!decoder_config_read(l->file, &l->decoder, err) ||
        (o->rope_scaling && !decoder_config_rope_scaling(&l->decoder, o->rope_scaling, err))) {
        return false;
    }
    l->tokenizer = tokenizer_from_model_file(l->file, err);
    return l->tokenizer != NULL;
}

static bool open_backend(struct loaded *l, const struct engine_options *o, struct error *err)
{
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    l->n_groups = decoder_kv_groups(&l->decoder, o->kv_type, l->groups, layer_group, layer_index);
    for (int g = 0; g < l->n_groups; g++) {
        l->groups[g].base = 0; /* all groups count their pages from the pool's start: see kv.h */
    }
    l->be = backend_create(&o->backend, err);
    return l->be != NULL;
}

/* Packed weights whose columns lie in no order cost more than others, here or there: the log says so. MLX stacks the
 * experts of a layer, which have an order each. */
static void tell_unsorted(const struct loaded *l)
{
    size_t n_sorted = 0, n_expanded = 0;
    bool stacks = strcmp(l->be->ops->name, "mlx") == 0;
    for (size_t i = 0; i < model_file_n_tensors(l->file); i++) {
        const struct tensor_view *t = model_file_tensor_at(l->file, i);
        if (t->type != DTYPE_GROUPED || !t->quant.packing || packed_in_order(&t->quant)) {
            continue;
        }
        bool stacked = stacks && str_find(t->name, STR(".experts.")) != STR_NPOS;
        bool sorted = !stacked && packed_can_sort(&t->quant);
        n_sorted += sorted;
        n_expanded += !sorted;
    }
    if (n_sorted + n_expanded > 0) {
        LOG_INFO("columns of packed weights are not in the order of their groups", "sorted=%zu expanded=%zu", n_sorted,
                 n_expanded);
    }
}

static bool load_model(struct loaded *l, const struct engine_options *o, uint32_t n_context, struct error *err)
{
    struct model_load_options options = {.config = &l->decoder,
                                         .kv_type = o->kv_type,
                                         .n_served = (int)n_context,
                                         .progress = o->progress,
                                         .arg = o->progress_arg};
    if (o->script_path) {
        return engine__test_hooks() ||
               error_set(err, ERR_UNSUPPORTED, "Scripts are run by test builds only; this is not one.");
    }
    tell_unsorted(l);
    l->model = model_load(l->be, l->file, &options, err);
    return l->model != NULL;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

/* Of what K and V depend on besides the tokens. */
static struct sha256 root_of(const struct loaded *l, const struct engine_options *o, uint32_t n_context)
{
    struct sha256_ctx *ctx = sha256_create();
    int32_t type = (int32_t)o->kv_type, long_angles = decoder_config_long_angles(&l->decoder, (int)n_context);
    const char *scaling = o->rope_scaling ? o->rope_scaling : "";
    sha256_update(ctx, l->digest, sizeof l->digest);
    sha256_update(ctx, &type, sizeof type);
    sha256_update(ctx, &long_angles, sizeof long_angles);
    sha256_update(ctx, scaling, strlen(scaling));
    struct sha256 root = sha256_finish(ctx);
    sha256_free(ctx);
    return root;
}

static void configure(struct loaded *l, const struct engine_options *o, struct engine_config *c)
{
    size_t n_eog = tokenizer_eog_ids(l->tokenizer, l->eog_ids, EOG_MAX);
    *c = (struct engine_config){
        .geometry = {.n_groups = l->n_groups, .pool_size = o->pool_size},
        .page_tokens = (uint32_t)l->be->ops->kv_page_tokens(l->be),
        .n_vocab = (uint32_t)l->decoder.n_vocab,
        .max_sequences = or_default(o->max_sequences, ENGINE_DEFAULT_SEQUENCES),
        .max_batch_tokens = or_default(o->max_batch_tokens, ENGINE_DEFAULT_BATCH_TOKENS),
        .max_waiting = or_default(o->max_waiting, ENGINE_DEFAULT_WAITING),
        .prefill_chunk = o->prefill_chunk,
        .prefix_cache = o->prefix_cache,
        .reserve_output = o->reserve_output,
        .speculation = o->speculation,
        .max_drafts = or_default(o->max_drafts, ENGINE_DEFAULT_DRAFTS),
        .max_itl_factor = o->max_itl_factor,
        .test_hooks = engine__test_hooks(),
        .eog_ids = l->eog_ids,
        .n_eog_ids = (uint32_t)(n_eog < EOG_MAX ? n_eog : EOG_MAX),
    };
    for (int g = 0; g < l->n_groups; g++) {
        c->geometry.page_size[g] = l->be->ops->kv_page_size(l->be, &l->groups[g]);
        c->window[g] = l->groups[g].window;
        c->state[g] = l->groups[g].state_size > 0;
    }
}

/* The context that is served: what is asked for, what the model takes, what the pool holds of one sequence. */
static bool choose_context(const struct loaded *l, const struct engine_options *o, struct engine_config *c,
                           struct error *err)
{
    uint32_t trained = l->decoder.n_context > 0 ? (uint32_t)l->decoder.n_context : 0;
    uint32_t wanted = o->max_context && o->max_context < trained ? o->max_context : trained;
    uint32_t least = wanted < ENGINE_MIN_CONTEXT ? wanted : ENGINE_MIN_CONTEXT;
    c->n_context = engine__longest(c, wanted);
    c->root = root_of(l, o, c->n_context);
    return c->n_context >= least ||
           error_set(
               err, ERR_INVALID,
               "The KV pool of %zu bytes holds a context of %u tokens; at least %u are needed. Give it more memory.",
               o->pool_size, c->n_context, least);
}

static bool bind_pool(struct loaded *l, const struct engine_options *o, struct error *err)
{
    uint8_t *pool = o->pool;
    if (!l->model) {
        return true; /* a script writes no pages */
    }
    if (!pool) {
        if (!shm_create(o->pool_size, "tandem-kv", &l->pool, err)) {
            return false;
        }
        pool = l->pool.data;
    }
    return l->be->ops->kv_bind(l->be, l->groups, l->n_groups, pool, o->pool_size, err);
}

/* ---- what it says of itself ---- */

/* The number of threads changes no bits: what describe says behind a comma does not count. */
static struct str kernel_set(const struct backend *be)
{
    struct str all = str_of(be->ops->describe(be));
    return str_slice(all, 0, str_find_char(all, ','));
}

/* Equal identities mean equal bytes: of answers, whose fingerprint it is, and of pages. The keys of the prefix cache
 * cover what K and V mean (the root: model, type, scaling). That is enough within one engine; on disk, pages of another
 * build or another kernel set, which may round differently, must not be mixed with one's own. */
static struct sha256 identity(const struct loaded *l, const struct engine_options *o, const struct engine_config *c)
{
    struct sha256_ctx *ctx = sha256_create();
    struct sha256 root = c->root;
    struct str kernels = kernel_set(l->be);
    sha256_update(ctx, o->build, strlen(o->build) + 1);
    sha256_update(ctx, kernels.ptr, kernels.len);
    sha256_update(ctx, &root, sizeof root);
    struct sha256 digest = sha256_finish(ctx);
    sha256_free(ctx);
    return digest;
}

static void fingerprint(const struct sha256 *digest, char out[17])
{
    char hex[2 * SHA256_SIZE + 1];
    sha256_hex(digest, hex);
    memcpy(out, hex, 16);
    out[16] = '\0';
}

static void describe(const struct loaded *l, const struct engine_options *o, const struct engine_config *c,
                     struct engine_info *info)
{
    *info = (struct engine_info){.n_vocab = c->n_vocab,
                                 .n_context = c->n_context,
                                 .max_sequences = c->max_sequences,
                                 .max_batch_tokens = c->max_batch_tokens,
                                 .page_tokens = c->page_tokens,
                                 .weights_size = l->model ? model_resident_size(l->model) : 0,
                                 .kv_size = o->pool_size,
                                 .n_params = model_n_params(l->file)};
    snprintf(info->build, sizeof info->build, "%s", o->build);
    snprintf(info->arch, sizeof info->arch, "%s", l->decoder.arch);
    snprintf(info->backend, sizeof info->backend, "%s", l->be->ops->describe(l->be));
    memcpy(info->model_digest, l->digest, sizeof info->model_digest);
    struct sha256 digest = identity(l, o, c);
    fingerprint(&digest, info->fingerprint);
}

static struct executor *make_executor(const struct loaded *l, const struct engine_options *o, struct error *err)
{
    struct executor *x = o->script_path ? script_executor_create(o->script_path, l->tokenizer, err)
                                        : executor_model_create(l->be, l->model, err);
    return x && o->fault ? fault_executor_create(x, o->fault, err) : x;
}

/* ---- what states leave out (engine/scheduler_state.c) ---- */

static bool check_states(const struct loaded *l, const struct engine_options *o, struct error *err)
{
    bool states = decoder_has_states(&l->decoder);
    if (states && o->draft_model_path) {
        return error_set(err, ERR_UNSUPPORTED,
                         "--draft-model is not possible with models of the architecture %s: their layers keep states, "
                         "which cannot be taken back behind a wrong guess, so no tokens are guessed. Leave the option "
                         "out.",
                         l->decoder.arch);
    }
    return !(states && o->kv_disk_dir) ||
           error_set(err, ERR_UNSUPPORTED,
                     "--kv-disk-dir is not possible with models of the architecture %s: their layers keep states, "
                     "which only some of their cached blocks have. Leave the option out.",
                     l->decoder.arch);
}

/* ---- the disk tier ---- */

static bool check_disk(const struct loaded *l, const struct engine_options *o, struct error *err)
{
    if (!o->kv_disk_dir) {
        return true;
    }
    if (!o->prefix_cache) {
        return error_set(err, ERR_INVALID,
                         "--kv-disk-dir needs the prefix cache, which --prefix-cache off leaves out.");
    }
    if (o->script_path) {
        return error_set(err, ERR_UNSUPPORTED, "--kv-disk-dir is not possible with --script, which computes no pages.");
    }
    return l->be->ops->kv_page ||
           error_set(err, ERR_UNSUPPORTED,
                     "--kv-disk-dir is not possible on the %s backend: it keeps K and V in arrays of its own, which "
                     "cannot be written to disk and read back page by page. Leave the option out, or choose --backend "
                     "cpu.",
                     l->be->ops->name);
}

static bool open_disk(const struct loaded *l, const struct engine_options *o, struct engine_parts *parts,
                      struct error *err)
{
    const struct engine_config *c = &parts->config;
    if (!o->kv_disk_dir) {
        return true;
    }
    struct kv_disk_options options = {.dir = o->kv_disk_dir,
                                      .max_size = o->kv_disk_size,
                                      .identity = identity(l, o, c),
                                      .page_tokens = c->page_tokens,
                                      .n_groups = c->geometry.n_groups};
    memcpy(options.page_size, c->geometry.page_size, sizeof options.page_size);
    parts->disk = kv_disk_create(&options, err);
    return parts->disk || error_wrap(err, "--kv-disk-dir '%s'", o->kv_disk_dir);
}

/* ---- seals ---- */

static uint64_t sum_positions(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed,
                              bool written)
{
    struct backend *be = arg;
    return be->ops->kv_sum(be, group, page, (int)from, (int)to, seed, written);
}

/* Parts of blocks are sealed too, where that can be had at next to no cost; with states there are none
 * (scheduler_tail.c). */
static void keep_sums(const struct loaded *l, struct kv_seal_options *options)
{
    struct backend *be = l->be;
    struct error why = {0};
    if (!be->ops->kv_keep_sums || decoder_has_states(&l->decoder)) {
        return;
    }
    if (!be->ops->kv_keep_sums(be, &why)) {
        LOG_WARN("only whole blocks of KV will outlive the engine", "reason=\"%s\"", why.msg);
        return;
    }
    options->sum = sum_positions;
    options->sum_arg = be;
}

/* Without them all works, only nothing outlives the engine. Whoever writes pages and seals none of them must say so. */
static void open_seals(const struct loaded *l, const struct engine_options *o, struct engine_parts *parts)
{
    const struct engine_config *c = &parts->config;
    struct error why = {0};
    if (!o->seals) {
        return;
    }
    if (!o->pool || !o->prefix_cache || o->script_path || !l->be->ops->kv_page) {
        kv_seals_void(o->seals, o->seals_size);
        return;
    }
    struct kv_seal_options options = {.memory = o->seals,
                                      .size = o->seals_size,
                                      .pool = o->pool,
                                      .pool_size = o->pool_size,
                                      .identity = identity(l, o, c),
                                      .page_tokens = c->page_tokens,
                                      .n_groups = c->geometry.n_groups};
    memcpy(options.page_size, c->geometry.page_size, sizeof options.page_size);
    keep_sums(l, &options);
    parts->seals = kv_seals_open(&options, &why);
    if (!parts->seals) {
        kv_seals_void(o->seals, o->seals_size);
        LOG_WARN("KV pages will not outlive the engine", "reason=\"%s\"", why.msg);
    }
}

static bool check_options(const struct engine_options *o, struct error *err)
{
    return o->max_drafts <= DRAFT_MAX ||
           error_set(err, ERR_INVALID, "At most %d tokens can be guessed in a step, not %u.", DRAFT_MAX, o->max_drafts);
}

struct engine *engine_create(const struct engine_options *options, struct error *err)
{
    struct engine_options o = *options;
    int64_t start_ms = clock_ms();
    struct engine_parts parts = {.release = release, .discard = options->discard, .discard_arg = options->discard_arg};
    uint64_t draft_size = 0;
    struct loaded *l = calloc(1, sizeof *l);
    if (!l) {
        error_set(err, ERR_NO_MEMORY, "There is no memory to load a model.");
        return NULL;
    }
    l->pool.fd = -1;
    o.build = o.build ? o.build : "";
    parts.resources = l;
    parts.replay = o.replay ? &o : NULL;
    bool ok = check_options(&o, err) && open_file(l, &o, err) && open_backend(l, &o, err) && check_disk(l, &o, err) &&
              check_states(l, &o, err);
    if (ok) {
        configure(l, &o, &parts.config);
        ok = choose_context(l, &o, &parts.config, err) && load_model(l, &o, parts.config.n_context, err) &&
             bind_pool(l, &o, err) && open_disk(l, &o, &parts, err) &&
             (!o.draft_model_path ||
              (parts.drafter = engine__load_draft(&o, &parts.config, l->be, l->tokenizer, &draft_size, err))) &&
             (parts.executor = make_executor(l, &o, err));
    }
    if (!ok) {
        kv_disk_free(parts.disk);
        engine__free_drafter(parts.drafter);
        release(l);
        return NULL;
    }
    parts.tokenizer = l->tokenizer;
    open_seals(l, &o, &parts);
    describe(l, &o, &parts.config, &parts.info);
    parts.info.weights_size += draft_size;
    parts.info.load_ms = (uint32_t)(clock_ms() - start_ms);
    return engine__assemble(&parts, err);
}
