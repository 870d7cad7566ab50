/* Structural tags (vLLM's and SGLang's response_format "structural_tag", with "structures" and "triggers"): text in
 * which what stands between marks obeys a schema, as a grammar. Any thread. */
#ifndef TANDEM_PIPELINE_STRUCTURAL_TAG_H
#define TANDEM_PIPELINE_STRUCTURAL_TAG_H

#include "base/json.h"

/* Its members are what they should be; INVALID names the field. */
NODISCARD bool structural_tag_check(const struct json *tag, const char *field, struct error *err);

/* Who appends a schema as it can be enforced; false: it has set an error of its own. */
struct structural_tag_schemas {
    bool (*put)(void *arg, const struct json *schema, struct buf *out);
    void *arg;
};

/* Appends llguidance's Lark to out, which bounds it. Checks too. False: err, or the schemas' own. */
NODISCARD bool structural_tag_grammar(const struct json *tag, const struct structural_tag_schemas *schemas,
                                      const char *field, struct buf *out, struct error *err);

#endif
