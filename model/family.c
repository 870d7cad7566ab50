/* Families by their names. */
#include "model/family.h"

static bool named(const char *name, struct str s)
{
    return name && str_eq(s, str_of(name));
}

const struct decoder_family *decoder_family_find(struct str name)
{
    for (size_t i = 0; i < decoder_n_families(); i++) {
        if (named(decoder_family_at(i)->name, name))
            return decoder_family_at(i);
    }
    return NULL;
}

const struct decoder_family *decoder_family_gguf(struct str arch)
{
    for (size_t i = 0; i < decoder_n_families(); i++) {
        if (named(decoder_family_at(i)->gguf, arch))
            return decoder_family_at(i);
    }
    return NULL;
}

const struct decoder_family *decoder_family_type(struct str type)
{
    for (size_t i = 0; i < decoder_n_families(); i++) {
        if (named(decoder_family_at(i)->model_types[0], type) || named(decoder_family_at(i)->model_types[1], type))
            return decoder_family_at(i);
    }
    return NULL;
}

const struct decoder_family *decoder_family_class(struct str hf_class)
{
    const struct str suffix = STR("ForCausalLM");
    if (!str_ends(hf_class, suffix))
        return NULL;
    hf_class.len -= suffix.len;
    for (size_t i = 0; i < decoder_n_families(); i++) {
        if (named(decoder_family_at(i)->hf_class, hf_class))
            return decoder_family_at(i);
    }
    return NULL;
}
