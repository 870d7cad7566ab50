/* Which files of a repository make a model that Tandem reads: a folder of safetensors with its JSON files, or a GGUF
 * file with all its parts. Never pickles (.bin, .pt, .ckpt), which run code when they are loaded, and never code.
 *
 * What is taken when the reference says nothing: the folder, where config.json and safetensors are there and `folder`
 * allows it; else of the GGUF files the first by this order of precisions:
 *
 *     Q4_K_M Q4_K_L Q4_K_XL Q4_K_S Q4_K Q4_1 Q4_0 IQ4_XS IQ4_NL MXFP4_MOE MXFP4
 *     Q5_K_M Q5_K_L Q5_K_XL Q5_K_S Q5_K Q5_1 Q5_0 Q6_K_L Q6_K_XL Q6_K Q8_0 Q8_K_XL BF16 F16 F32
 *     Q3_K_L Q3_K_XL Q3_K_M Q3_K_S Q3_K Q2_K_L Q2_K_XL Q2_K
 *
 * A precision is one of these, in any case of letters, or 4bit, 5bit ...: the first by this order with so many bits; or
 * safetensors: the folder. GGUF files of projectors (mmproj) and importance matrices are never chosen by a precision.
 */
#ifndef TANDEM_HUB_CHOOSE_H
#define TANDEM_HUB_CHOOSE_H

#include "hub/listing.h"
#include "hub/reference.h"

struct hub_choice {
    bool is_folder;
    struct str main;               /* the GGUF file, of several parts the first; "" of a folder */
    struct str precision;          /* "Q4_K_M"; "safetensors"; "" when the file's name does not say */
    const struct hub_file **files; /* [n] of the listing, in the order in which they are to be brought: small ones
                                    * first, so that weights that are there mean that the rest is */
    size_t n;
    uint64_t size;
};

enum hub_folder_use { HUB_FOLDER_FIRST, HUB_FOLDER_LAST /* only where there is no GGUF file */ };

/* The arrays live in the arena. Of the reference, file and precision count. NOT_FOUND says what there is instead;
 * UNSUPPORTED: only pickles, or other things that are not read. */
NODISCARD bool hub_choose(const struct hub_listing *l, const struct hub_reference *r, enum hub_folder_use folder,
                          struct arena *arena, struct hub_choice *out, struct error *err);
/* Of the choice with HUB_FOLDER_LAST: there is a folder, too, and the reference does not say which of both. */
bool hub_choice_is_open(const struct hub_listing *l, const struct hub_reference *r, const struct hub_choice *c);
/* A part that its name says there is, and that the listing lacks: "x-00002-of-00003.gguf"; false: none. */
bool hub_choice_lacks(const struct hub_choice *c, char *out, size_t size);

bool hub_has_folder(const struct hub_listing *l); /* config.json and safetensors */
/* Every GGUF model of the listing (of several parts the first file): calls each(arg, choice) in the order above; a
 * choice lives until each returns. */
void hub_choose_each_gguf(const struct hub_listing *l, struct arena *arena,
                          void (*each)(void *arg, const struct hub_choice *c), void *arg);

#endif
