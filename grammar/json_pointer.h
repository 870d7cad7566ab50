/* Tokens of JSON Pointers (RFC 6901): the names between the slashes, where '~' is written ~0 and '/' ~1. Any thread. */
#ifndef TANDEM_GRAMMAR_JSON_POINTER_H
#define TANDEM_GRAMMAR_JSON_POINTER_H

#include "base/buf.h"

void json_pointer_put(struct buf *out, struct str name); /* appends a slash and the name's token */

/* A token's name, in place; its length. No longer than the token; what is no escape stays. */
size_t json_pointer_unescape(char *token, size_t len);

#endif
