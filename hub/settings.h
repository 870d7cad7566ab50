/* Where the Hub is, who asks, and where its models are kept: what huggingface_hub reads from the environment too.
 *
 *     HF_ENDPOINT                       the Hub [https://huggingface.co]
 *     HF_TOKEN, HUGGING_FACE_HUB_TOKEN  the token; else the file $HF_TOKEN_PATH [$HF_HOME/token], which `hf auth login`
 *                                       writes, unless HF_HUB_DISABLE_IMPLICIT_TOKEN
 *     HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE  the cache [$HF_HOME/hub]
 *     HF_HOME                           [$XDG_CACHE_HOME/huggingface, ~/.cache/huggingface]
 *     HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE  1, on, yes, true: no request goes out */
#ifndef TANDEM_HUB_SETTINGS_H
#define TANDEM_HUB_SETTINGS_H

#include "base/error.h"

#define HUB_PATH_MAX     4096
#define HUB_ENDPOINT_MAX 512
#define HUB_TOKEN_MAX    1024

struct hub_settings {
    char endpoint[HUB_ENDPOINT_MAX]; /* http:// or https://, without '/' at the end */
    char token[HUB_TOKEN_MAX];       /* "" when there is none; never shown */
    char cache[HUB_PATH_MAX];        /* it need not exist */
    bool offline;
};

/* All but the token, which only who asks the Hub needs. INVALID names the variable that makes no sense; NOT_FOUND:
 * there is no home folder for the cache. Any thread, as long as none changes the environment. */
NODISCARD bool hub_settings_read(struct hub_settings *out, struct error *err);
/* The token, into settings that were read. */
NODISCARD bool hub_settings_read_token(struct hub_settings *out, struct error *err);

#endif
