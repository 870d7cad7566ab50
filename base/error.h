/* Errors: one table of codes, one struct that carries a code and a sentence.
 *
 * A fallible function takes `struct error *err` last and returns bool or a pointer. It leaves *err untouched on
 * success; on failure it sets it exactly where the failure is found, in a complete sentence that says what was
 * expected and what came. Callers add context with error_wrap. err may never be NULL.
 *
 *     if (!gguf_open(path, &gguf, err)) return error_wrap(err, "model '%s'", path);
 */
#ifndef TANDEM_BASE_ERROR_H
#define TANDEM_BASE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

/* gcc and clang, the compilers Tandem is built with. */
#define NODISCARD                __attribute__((warn_unused_result))
#define PRINTF_FORMAT(fmt, args) __attribute__((format(printf, fmt, args)))

/* X(code, HTTP status, OpenAI type, OpenAI code or "", Anthropic type, exit status of the program, retryable)
 * retryable: the same request may succeed when it is sent again unchanged. */
#define ERROR_TABLE(X)                                                                                          \
    X(NONE, 200, "", "", "", 0, 0)                                                                              \
    X(INVALID, 400, "invalid_request_error", "", "invalid_request_error", 2, 0)                                 \
    X(UNSUPPORTED, 400, "invalid_request_error", "unsupported_value", "invalid_request_error", 2, 0)            \
    X(UNKNOWN_FIELD, 400, "invalid_request_error", "unknown_parameter", "invalid_request_error", 2, 0)          \
    X(CONTEXT_EXCEEDED, 400, "invalid_request_error", "context_length_exceeded", "invalid_request_error", 2, 0) \
    X(NO_PREVIOUS, 400, "invalid_request_error", "previous_response_not_found", "invalid_request_error", 2, 0)  \
    X(UNAUTHENTICATED, 401, "authentication_error", "invalid_api_key", "authentication_error", 77, 0)           \
    X(FORBIDDEN, 403, "permission_error", "", "permission_error", 77, 0)                                        \
    X(NOT_FOUND, 404, "not_found_error", "", "not_found_error", 66, 0)                                          \
    X(MODEL_NOT_FOUND, 404, "invalid_request_error", "model_not_found", "not_found_error", 66, 0)               \
    X(BAD_METHOD, 405, "invalid_request_error", "method_not_allowed", "invalid_request_error", 2, 0)            \
    X(TIMEOUT, 408, "timeout_error", "request_timeout", "timeout_error", 75, 1)                                 \
    X(LENGTH_REQUIRED, 411, "invalid_request_error", "length_required", "invalid_request_error", 2, 0)          \
    X(TOO_LARGE, 413, "invalid_request_error", "request_too_large", "request_too_large", 2, 0)                  \
    X(URI_TOO_LONG, 414, "invalid_request_error", "uri_too_long", "invalid_request_error", 2, 0)                \
    X(BAD_MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type", "invalid_request_error", 2, 0)    \
    X(EXPECTATION, 417, "invalid_request_error", "expectation_failed", "invalid_request_error", 2, 0)           \
    X(OVERLOADED, 429, "rate_limit_error", "server_overloaded", "rate_limit_error", 75, 1)                      \
    X(RATE_LIMITED, 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error", 75, 1)                  \
    X(HEADERS_TOO_LARGE, 431, "invalid_request_error", "headers_too_large", "request_too_large", 2, 0)          \
    X(CANCELLED, 499, "request_cancelled", "request_cancelled", "request_cancelled", 75, 0)                     \
    X(INTERNAL, 500, "server_error", "internal_error", "api_error", 70, 0)                                      \
    X(NO_MEMORY, 500, "server_error", "out_of_memory", "api_error", 71, 1)                                      \
    X(BAD_NUMBERS, 500, "server_error", "non_finite_logits", "api_error", 70, 0)                                \
    X(QUARANTINED, 500, "server_error", "request_quarantined", "api_error", 70, 0)                              \
    X(NOT_IMPLEMENTED, 501, "invalid_request_error", "not_implemented", "invalid_request_error", 69, 0)         \
    X(UNAVAILABLE, 503, "server_error", "service_unavailable", "overloaded_error", 69, 1)                       \
    X(ENGINE_LOST, 503, "server_error", "engine_lost", "overloaded_error", 69, 1)                               \
    X(DEVICE, 503, "server_error", "device_error", "overloaded_error", 72, 1)                                   \
    X(DEADLINE, 504, "timeout_error", "deadline_exceeded", "timeout_error", 75, 1)                              \
    X(NO_ROOM, 507, "server_error", "insufficient_memory", "api_error", 71, 0)                                  \
    X(HTTP_VERSION, 505, "invalid_request_error", "http_version_not_supported", "invalid_request_error", 2, 0)  \
    X(IO, 500, "server_error", "io_error", "api_error", 74, 0)                                                  \
    X(FORMAT, 500, "server_error", "bad_file_format", "api_error", 65, 0)                                       \
    X(PROTOCOL, 500, "server_error", "protocol_error", "api_error", 76, 1)

enum error_code {
#define X(name, http, oai_type, oai_code, anthropic, exit_status, retry) ERR_##name,
    ERROR_TABLE(X)
#undef X
        ERR_COUNT
};

struct error_info {
    const char *name; /* "CONTEXT_EXCEEDED" */
    int http_status;
    const char *openai_type;
    const char *openai_code; /* "" when the API has none: written as null */
    const char *anthropic_type;
    int exit_status; /* sysexits(3) */
    bool retryable;
};

#define ERROR_MSG_SIZE 480 /* the names of all architectures in one sentence */

struct error {
    enum error_code code;
    char param[64];           /* the request field at fault ("messages[2].content"), or "" */
    char msg[ERROR_MSG_SIZE]; /* one complete sentence, valid UTF-8 without control characters but \n and \t */
    int32_t retry_after_s;    /* of a retryable one: when it is worth it, as far as that is known; else 0 */
};

/* Sets *err to code and the formatted sentence (cut to fit, never inside a UTF-8 character); clears param.
 * Returns false so that a caller can write `return error_set(...)`. Any thread. */
bool error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_FORMAT(3, 4);

/* Like error_set, and names the request field at fault. param is copied (cut to fit). */
bool error_set_param(struct error *err, enum error_code code, const char *param, const char *fmt, ...)
    PRINTF_FORMAT(4, 5);

/* Puts "context: " before the sentence already in *err; code and param stay. Returns false. */
bool error_wrap(struct error *err, const char *fmt, ...) PRINTF_FORMAT(2, 3);

/* The table's row; an unknown code gives INTERNAL's. Never NULL. */
const struct error_info *error_info(enum error_code code);

/* The code of a name as error_info gives it, or INTERNAL. */
enum error_code error_code_of(const char *name);

#endif
