#include "hub/choose.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define SHOWN_FILES 6 /* in an error */

/* The order of choose.h. */
static const struct precision {
    const char *name;
    int bits;
} precisions[] = {
    {"Q4_K_M", 4}, {"Q4_K_L", 4},  {"Q4_K_XL", 4},   {"Q4_K_S", 4}, {"Q4_K", 4},    {"Q4_1", 4},    {"Q4_0", 4},
    {"IQ4_XS", 4}, {"IQ4_NL", 4},  {"MXFP4_MOE", 4}, {"MXFP4", 4},  {"Q5_K_M", 5},  {"Q5_K_L", 5},  {"Q5_K_XL", 5},
    {"Q5_K_S", 5}, {"Q5_K", 5},    {"Q5_1", 5},      {"Q5_0", 5},   {"Q6_K_L", 6},  {"Q6_K_XL", 6}, {"Q6_K", 6},
    {"Q8_0", 8},   {"Q8_K_XL", 8}, {"BF16", 16},     {"F16", 16},   {"F32", 32},    {"Q3_K_L", 3},  {"Q3_K_XL", 3},
    {"Q3_K_M", 3}, {"Q3_K_S", 3},  {"Q3_K", 3},      {"Q2_K_L", 2}, {"Q2_K_XL", 2}, {"Q2_K", 2},
};
#define UNKNOWN_RANK ARRAY_LEN(precisions)

static const char *const folder_files[] = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",   "chat_template.json",      "model.safetensors.index.json",
};
#define FOLDER_TEMPLATES "additional_chat_templates/"

static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"};

/* ---- names of files ---- */

struct part {        /* "NAME-00001-of-00003.gguf" */
    struct str stem; /* with the folder */
    int64_t no, count;
};

static bool digits(struct str s, int64_t *out)
{
    return s.len == 5 && s.ptr[0] != '-' && str_to_i64(s, out);
}

static bool is_part(struct str path, const char *suffix, struct part *out)
{
    struct str end = str_of(suffix);
    const size_t n = strlen("-00001-of-00003");
    if (!str_ends(path, end) || path.len < end.len + n) {
        return false;
    }
    struct str tail = str_slice(path, path.len - end.len - n, path.len - end.len);
    out->stem = str_slice(path, 0, path.len - end.len - n);
    return tail.ptr[0] == '-' && digits(str_slice(tail, 1, 6), &out->no) &&
           str_eq(str_slice(tail, 6, 10), STR("-of-")) && digits(str_slice(tail, 10, 15), &out->count) &&
           out->no >= 1 && out->count >= out->no;
}

static bool is_separator(struct str s, size_t i)
{
    return i >= s.len || strchr("-._/", s.ptr[i]) != NULL;
}

/* Whether the name holds the word, between separators, whatever the case of its letters. */
static bool has_word(struct str name, struct str word)
{
    for (size_t i = 0; i + word.len <= name.len; i++) {
        bool starts = i == 0 || (is_separator(name, i - 1) && name.ptr[i - 1] != '_');
        if (starts && is_separator(name, i + word.len) && (i + word.len == name.len || name.ptr[i + word.len] != '_') &&
            str_eq_nocase(str_slice(name, i, i + word.len), word)) {
            return true;
        }
    }
    return false;
}

static bool holds_nocase(struct str name, struct str needle)
{
    for (size_t i = 0; i + needle.len <= name.len; i++) {
        if (str_eq_nocase(str_slice(name, i, i + needle.len), needle)) {
            return true;
        }
    }
    return false;
}

static size_t rank_of(struct str path)
{
    struct str name = str_path_name(path);
    for (size_t i = 0; i < ARRAY_LEN(precisions); i++) {
        if (has_word(name, str_of(precisions[i].name))) {
            return i;
        }
    }
    return UNKNOWN_RANK;
}

static struct str precision_of(struct str path)
{
    size_t rank = rank_of(path);
    return rank == UNKNOWN_RANK ? STR("") : str_of(precisions[rank].name);
}

/* A GGUF file that may be a model; of several parts the first. */
static bool is_gguf_model(struct str path)
{
    struct part part;
    struct str name = str_path_name(path);
    return str_ends(path, STR(".gguf")) && (!is_part(path, ".gguf", &part) || part.no == 1) &&
           !holds_nocase(name, STR("mmproj")) && !holds_nocase(name, STR("imatrix"));
}

static bool in_folder(struct str path)
{
    return str_find_char(path, '/') != STR_NPOS;
}

static bool is_shard(struct str path, struct part *out)
{
    return !in_folder(path) && is_part(path, ".safetensors", out);
}

/* ---- the folder ---- */

static bool is_folder_document(struct str path)
{
    for (size_t i = 0; i < ARRAY_LEN(folder_files); i++) {
        if (str_eq(path, str_of(folder_files[i]))) {
            return true;
        }
    }
    return str_starts(path, STR(FOLDER_TEMPLATES)) && str_ends(path, STR(".jinja"));
}

static const struct hub_file *only_safetensors(const struct hub_listing *l)
{
    const struct hub_file *only = NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (!in_folder(l->files[i].path) && str_ends(l->files[i].path, STR(".safetensors"))) {
            if (only) {
                return NULL;
            }
            only = &l->files[i];
        }
    }
    return only;
}

struct folder_weights { /* one of both; both empty: none */
    struct str file;    /* all of them */
    struct str stem;    /* of the shards */
};

/* As the reader of folders looks for them: model.safetensors, else the shards of the index, else the only one. Beside
 * shards named "model" others hold the same weights for other programs (Mistral's "consolidated"). */
static struct folder_weights weights_of(const struct hub_listing *l)
{
    struct folder_weights w = {.file = {NULL, 0}};
    struct part part;
    if (hub_listing_find(l, STR("model.safetensors"))) {
        return (struct folder_weights){.file = STR("model.safetensors")};
    }
    if (!hub_listing_find(l, STR("model.safetensors.index.json"))) {
        const struct hub_file *only = only_safetensors(l);
        w.file = only ? only->path : w.file;
        return w;
    }
    for (size_t i = 0; i < l->n; i++) {
        if (is_shard(l->files[i].path, &part) && (!w.stem.len || str_eq(part.stem, STR("model")))) {
            w.stem = part.stem;
        }
    }
    return w;
}

static bool is_weight(const struct folder_weights *w, struct str path)
{
    struct part part;
    return w->file.len ? str_eq(path, w->file) : w->stem.len && is_shard(path, &part) && str_eq(part.stem, w->stem);
}

bool hub_has_folder(const struct hub_listing *l)
{
    struct folder_weights w = weights_of(l);
    return (w.file.len || w.stem.len) && hub_listing_find(l, STR("config.json"));
}

static void add(struct hub_choice *c, const struct hub_file *f)
{
    c->files[c->n++] = f;
    c->size += f->size;
}

static void take_folder(const struct hub_listing *l, struct hub_choice *out)
{
    out->is_folder = true;
    out->main = STR("");
    out->precision = STR("safetensors");
    struct folder_weights w = weights_of(l);
    for (size_t i = 0; i < l->n; i++) {
        if (is_folder_document(l->files[i].path)) {
            add(out, &l->files[i]);
        }
    }
    for (size_t i = 0; i < l->n; i++) {
        if (is_weight(&w, l->files[i].path)) {
            add(out, &l->files[i]);
        }
    }
}

/* ---- GGUF ---- */

static void take_gguf(const struct hub_listing *l, const struct hub_file *first, struct hub_choice *out)
{
    struct part whole, part;
    out->main = first->path;
    out->precision = precision_of(first->path);
    if (!is_part(first->path, ".gguf", &whole)) {
        add(out, first);
        return;
    }
    for (size_t i = 0; i < l->n; i++) {
        if (is_part(l->files[i].path, ".gguf", &part) && part.count == whole.count && str_eq(part.stem, whole.stem)) {
            add(out, &l->files[i]);
        }
    }
}

static bool bits_of(struct str precision, int *out)
{
    int64_t bits;
    size_t end = precision.len > 3 ? precision.len - 3 : 0;
    if (!end || !str_eq_nocase(str_slice(precision, end, precision.len), STR("bit"))) {
        return false;
    }
    end -= end > 1 && precision.ptr[end - 1] == '-';
    bool ok = str_to_i64(str_slice(precision, 0, end), &bits) && bits > 0 && bits <= 32;
    *out = ok ? (int)bits : 0;
    return ok;
}

static bool has_precision(struct str path, struct str asked)
{
    int bits = 0;
    size_t rank = rank_of(path);
    if (asked.len == 0) {
        return true;
    }
    if (bits_of(asked, &bits)) {
        return rank != UNKNOWN_RANK && precisions[rank].bits == bits;
    }
    asked = str_eq_nocase(asked, STR("fp16")) ? STR("F16") : str_eq_nocase(asked, STR("fp32")) ? STR("F32") : asked;
    return has_word(str_path_name(path), asked);
}

/* The first of this precision by the order; among equals by name. */
static const struct hub_file *best_gguf(const struct hub_listing *l, struct str precision)
{
    const struct hub_file *best = NULL;
    for (size_t i = 0; i < l->n; i++) {
        struct str path = l->files[i].path;
        if (is_gguf_model(path) && has_precision(path, precision) && (!best || rank_of(path) < rank_of(best->path))) {
            best = &l->files[i];
        }
    }
    return best;
}

/* ---- what is said when nothing fits ---- */

static bool has_pickles(const struct hub_listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        for (size_t j = 0; j < ARRAY_LEN(pickles); j++) {
            if (str_ends(l->files[i].path, str_of(pickles[j]))) {
                return true;
            }
        }
    }
    return false;
}

/* "Q4_K_M, Q8_0, safetensors". */
static void list_offers(const struct hub_listing *l, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(precisions); i++) {
        for (size_t j = 0; j < l->n; j++) {
            if (is_gguf_model(l->files[j].path) && rank_of(l->files[j].path) == i) {
                buf_printf(out, "%s%s", out->len ? ", " : "", precisions[i].name);
                break;
            }
        }
    }
    if (hub_has_folder(l)) {
        buf_printf(out, "%ssafetensors", out->len ? ", " : "");
    }
}

static bool say_what_there_is(const struct hub_listing *l, const struct hub_reference *r, struct error *err)
{
    struct buf offers;
    buf_init(&offers, KIB(4));
    list_offers(l, &offers);
    const char *what = r->file[0] ? r->file : r->precision;
    if (offers.len && what[0]) {
        error_set(err, ERR_NOT_FOUND, "there is no '%.80s'; on offer: %.120s.", what, offers.data);
    } else if (what[0] && best_gguf(l, STR(""))) {
        error_set(err, ERR_NOT_FOUND, "there is no '%.80s', but '%.100s'.", what, best_gguf(l, STR(""))->path.ptr);
    } else if (has_pickles(l)) {
        error_set(err, ERR_UNSUPPORTED,
                  "it has its weights as pickles only (.bin, .pt), which run code when they are loaded; Tandem reads "
                  "safetensors and GGUF.");
    } else if (hub_listing_find(l, STR("config.json"))) {
        error_set(err, ERR_UNSUPPORTED, "it holds no *.safetensors that make one model, and no GGUF file.");
    } else {
        error_set(err, ERR_UNSUPPORTED, "it holds no model: neither config.json with *.safetensors nor a GGUF file.");
    }
    buf_release(&offers);
    return false;
}

/* ---- choosing ---- */

static bool start(const struct hub_listing *l, struct arena *arena, struct hub_choice *out, struct error *err)
{
    *out = (struct hub_choice){.files = arena_alloc_array(arena, l->n + 1, sizeof(const struct hub_file *))};
    return out->files || arena_full(arena, "the list of files", err);
}

static const struct hub_file *asked_file(const struct hub_listing *l, const struct hub_reference *r)
{
    const struct hub_file *f = hub_listing_find(l, str_of(r->file));
    struct part part;
    char first[HUB_FILE_MAX + 1];
    if (f && is_part(f->path, ".gguf", &part) && part.no != 1) { /* any part means the whole */
        snprintf(first, sizeof first, STR_FMT "-00001-of-%05d.gguf", STR_ARG(part.stem), (int)part.count);
        f = hub_listing_find(l, str_of(first));
    }
    return f;
}

bool hub_choose(const struct hub_listing *l, const struct hub_reference *r, enum hub_folder_use folder,
                struct arena *arena, struct hub_choice *out, struct error *err)
{
    struct str precision = str_of(r->precision);
    if (!start(l, arena, out, err)) {
        return false;
    }
    bool wants_folder = str_eq_nocase(precision, STR("safetensors")), any = !r->file[0] && !precision.len;
    const struct hub_file *gguf = r->file[0] ? asked_file(l, r) : wants_folder ? NULL : best_gguf(l, precision);
    bool take = hub_has_folder(l) && (wants_folder || (any && (folder == HUB_FOLDER_FIRST || !gguf)));
    if (take) {
        take_folder(l, out);
    } else if (gguf) {
        take_gguf(l, gguf, out);
    }
    return take || gguf || say_what_there_is(l, r, err);
}

bool hub_choice_is_open(const struct hub_listing *l, const struct hub_reference *r, const struct hub_choice *c)
{
    return !c->is_folder && !r->file[0] && !r->precision[0] && hub_has_folder(l);
}

bool hub_choice_lacks(const struct hub_choice *c, char *out, size_t size)
{
    const char *suffix = c->is_folder ? ".safetensors" : ".gguf";
    struct part part, last = {.count = 0};
    int64_t next = 1;
    for (size_t i = 0; i < c->n; i++) { /* sorted: parts come in order */
        if (is_part(c->files[i]->path, suffix, &part)) {
            last = part;
            next += part.no == next;
        }
    }
    if (next > last.count) {
        return false;
    }
    snprintf(out, size, STR_FMT "-%05d-of-%05d%s", STR_ARG(last.stem), (int)next, (int)last.count, suffix);
    return true;
}

void hub_choose_each_gguf(const struct hub_listing *l, struct arena *arena,
                          void (*each)(void *arg, const struct hub_choice *c), void *arg)
{
    struct error ignored = {0};
    struct hub_choice c;
    size_t *ranks = arena_alloc_array(arena, l->n + 1, sizeof *ranks);
    if (!ranks || !start(l, arena, &c, &ignored)) {
        return;
    }
    for (size_t i = 0; i < l->n; i++) {
        ranks[i] = is_gguf_model(l->files[i].path) ? rank_of(l->files[i].path) : UNKNOWN_RANK + 1;
    }
    for (size_t rank = 0; rank <= UNKNOWN_RANK; rank++) {
        for (size_t i = 0; i < l->n; i++) {
            if (ranks[i] == rank) {
                c = (struct hub_choice){.files = c.files};
                take_gguf(l, &l->files[i], &c);
                each(arg, &c);
            }
        }
    }
}
