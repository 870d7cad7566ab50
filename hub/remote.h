/* The heads of a model that is on the Hub: everything of it but the weights, as files that the readers of models open.
 * Of a file with weights the head lies at its beginning and the rest is a hole, so that it is as long as the real one
 * and takes no room. */
#ifndef TANDEM_HUB_REMOTE_H
#define TANDEM_HUB_REMOTE_H

#include "hub/choose.h"
#include "hub/client.h"

/* Fills an existing, empty folder; *path gets what is to be opened: the folder, or the first GGUF file in it. Files lie
 * flat in it. FORMAT: a head is none. The JSON of the tokenizer is left out: heads are read to learn what a model
 * needs.
 */
NODISCARD bool hub_remote_heads(struct hub_client *c, const char *repo, const struct hub_listing *l,
                                const struct hub_choice *choice, const char *folder, char path[HUB_PATH_MAX],
                                struct error *err);
void hub_remote_clear(const char *folder); /* removes it, with the files in it; what is mapped stays readable */

#endif
