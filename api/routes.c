/* The table of routes: dispatch, docs/API.md and the test that walks all of them read it. */
#include "api/api_internal.h"

#include "api/anthropic/anthropic.h"
#include "api/batch/batch.h"
#include "api/generate.h"
#include "api/mcp/mcp_api.h"
#include "api/ollama/ollama.h"
#include "api/responses/responses.h"
#include "base/array.h"

#define FIELDS(...)                             \
    (const struct field *const[]){__VA_ARGS__}, \
        sizeof((const struct field *const[]){__VA_ARGS__}) / sizeof(struct field *)

const struct route api__routes[] = {
    {"POST", "/v1/chat/completions", "OpenAI's chat completions; tool calls and reasoning: TOOLS.md.",
     FIELDS(api__chat_fields, api__common_fields, api__house_fields), NULL, api__decode_chat, api__prepare,
     api__generate, &api__chat_encoder},
    {"POST", "/v1/completions", "OpenAI's completions, with fill-in-the-middle by `suffix`.",
     FIELDS(api__completion_fields, api__common_fields, api__house_fields), NULL, api__decode_completion, api__prepare,
     api__generate, &api__completion_encoder},
    {"POST", "/infill", "Fill-in-the-middle as llama.cpp's editors plugins ask for it; answers as /v1/completions.",
     FIELDS(api__infill_fields, api__common_fields, api__house_fields), NULL, api__decode_infill, api__prepare,
     api__generate, &api__completion_encoder},
    {"POST", RESPONSES_ROUTE, "OpenAI's responses; kept with --journal unless `store` is false (RESPONSES.md).",
     FIELDS(api__responses_fields, api__common_fields, api__house_fields), NULL, api__decode_responses,
     api__work_responses, api__generate, &api__responses_encoder},
    {"GET", RESPONSES_ROUTE "/{id}",
     "A stored one as it is now; with `?stream=true` its events, `&starting_after=N` those behind the event with that "
     "`sequence_number`.",
     NULL, 0, api__response_get, NULL, NULL, NULL, NULL},
    {"DELETE", RESPONSES_ROUTE "/{id}", "Removes it; one that runs is cancelled first.", NULL, 0, api__response_delete,
     NULL, NULL, NULL, NULL},
    {"POST", RESPONSES_ROUTE "/{id}/cancel", "Ends a running one, and answers with it.", NULL, 0, api__response_cancel,
     NULL, NULL, NULL, NULL},
    {"GET", RESPONSES_ROUTE "/{id}/input_items",
     "The items that it was made of, those of the responses before it included; `?limit=` (1 to 100, 20), `&order=` "
     "(desc, asc), `&after=` an item's id.",
     NULL, 0, api__response_input, NULL, NULL, NULL, NULL},
    {"POST", "/v1/messages", "Anthropic's Messages API; errors in its shape, here and below.",
     FIELDS(api__count_fields, api__messages_fields, api__house_fields), NULL, api__decode_messages,
     api__prepare_messages, api__generate, &api__messages_encoder},
    {"POST", "/v1/messages/count_tokens", "The tokens that such a request's prompt has.", FIELDS(api__count_fields),
     NULL, api__decode_count, api__work_count, NULL, NULL},
    {"POST", "/api/chat", "Ollama's chat: lines of JSON; errors in its shape, here and below.",
     FIELDS(api__ollama_chat_fields), NULL, api__decode_ollama_chat, api__work_ollama, api__generate,
     &api__ollama_chat_encoder},
    {"POST", "/api/generate", "Ollama's answer to one prompt.", FIELDS(api__ollama_generate_fields), NULL,
     api__decode_ollama_generate, api__work_ollama, api__generate, &api__ollama_generate_encoder},
    {"POST", "/api/show", "What is known of a model.", FIELDS(api__ollama_show_fields), NULL, api__decode_ollama_show,
     api__work_ollama_show, NULL, NULL},
    {"GET", "/api/tags", "The names under which models are served, in Ollama's shape.", NULL, 0, api__ollama_tags, NULL,
     NULL, NULL, NULL},
    {"GET", "/api/ps", "The models that are loaded.", NULL, 0, api__ollama_ps, NULL, NULL, NULL, NULL},
    {"GET", "/api/version", "This program's version.", NULL, 0, api__ollama_version, NULL, NULL, NULL, NULL},
    {"GET", "/v1/mcp/servers", "The MCP servers: state, transport, version, tools, last error (MCP.md).", NULL, 0,
     api__mcp_servers, NULL, NULL, NULL, NULL},
    {"GET", "/v1/mcp/tools", "Their tools: server, name, description, input schema, annotations.", NULL, 0,
     api__mcp_tools, NULL, NULL, NULL, NULL},
    {"POST", "/v1/mcp/execute", "Calls one of them; its arguments are checked with its schema first.",
     FIELDS(api__mcp_execute_fields), NULL, api__decode_mcp_execute, api__work_mcp_execute, api__finish_mcp_execute,
     NULL},
    {"POST", "/tokenize", "Token ids of a text or of a rendered conversation.", FIELDS(api__tokenize_fields), NULL,
     api__decode_tokenize, api__work_tokenize, NULL, NULL},
    {"POST", "/detokenize", "The text of token ids.", FIELDS(api__detokenize_fields), NULL, api__decode_detokenize,
     api__work_detokenize, NULL, NULL},
    {"POST", "/apply-template", "What the chat template makes of a conversation.", FIELDS(api__template_fields), NULL,
     api__decode_template, api__work_template, NULL, NULL},
    {"GET", "/v1/models",
     "The names under which models are served, loaded or not; in Anthropic's shape for a request with "
     "`anthropic-version` or "
     "`x-api-key`.",
     NULL, 0, api__models, NULL, NULL, NULL, NULL},
    {"GET", "/v1/models/{model}", "One of them.", NULL, 0, api__model, NULL, NULL, NULL, NULL},
    {"POST", "/v1/models/{model}/load",
     "Loads it; answers when it is ready or cannot be, or at once with 202 (ON_DEMAND.md).", FIELDS(api__load_fields),
     NULL, api__decode_model_command, api__work_nothing, api__finish_load, NULL},
    {"POST", "/v1/models/{model}/unload",
     "Unloads it when the requests that its engine runs have ended; answers then, or at once with 202.",
     FIELDS(api__unload_fields), NULL, api__decode_model_command, api__work_nothing, api__finish_unload, NULL},
    {"POST", "/v1/load_lora_adapter",
     "Adds an adapter to a model, from beneath --lora-dir; answers when it can be used, or cannot be (LORA.md).",
     FIELDS(api__load_adapter_fields), NULL, api__decode_load_adapter, api__work_nothing, api__finish_load_adapter,
     NULL},
    {"POST", "/v1/unload_lora_adapter",
     "Takes one away: no request finds it any more; those that run with it end as they began.",
     FIELDS(api__unload_adapter_fields), NULL, api__decode_unload_adapter, api__work_nothing,
     api__finish_unload_adapter, NULL},
    {"POST", "/v1/requests/{id}/cancel",
     "Ends a running request by its object's id or by its X-Request-Id; its client gets what was generated so far.",
     NULL, 0, api__cancel, NULL, NULL, NULL, NULL},
    {"GET", "/v1/requests",
     "Requests with `background` or `detach` of the caller's key, newest first; `?limit=` (1 to 100, 20) and `?after=` "
     "(the "
     "last id of the page before).",
     NULL, 0, api__request_list, NULL, NULL, NULL, NULL},
    {"GET", "/v1/requests/{id}",
     "One of them: its status and, once it has ended, its result; with `?stream=true` its events, `&after=N` those "
     "behind "
     "the N-th token (RELIABILITY.md).",
     NULL, 0, api__request_get, NULL, NULL, NULL, NULL},
    {"DELETE", "/v1/requests/{id}", "Cancels it, or removes it once it has ended.", NULL, 0, api__request_delete, NULL,
     NULL, NULL, NULL},
    {"POST", FILES_ROUTE,
     "Uploads one, as multipart/form-data: `file`, `purpose` (batch), `expires_after[anchor]` (created_at) and "
     "`expires_after[seconds]`; needs --journal, as all that follows here (BATCHES.md).",
     NULL, 0, api__file_create, NULL, NULL, NULL, NULL},
    {"GET", FILES_ROUTE,
     "Those of the caller's key, newest first; `?purpose=`, `&limit=` (1 to 10000, 10000), `&order=` (desc, asc), "
     "`&after=` the last id of the page before.",
     NULL, 0, api__file_list, NULL, NULL, NULL, NULL},
    {"GET", FILES_ROUTE "/{id}", "One of them.", NULL, 0, api__file_get, NULL, NULL, NULL, NULL},
    {"DELETE", FILES_ROUTE "/{id}", "Removes it; the input of a batch that has not ended is refused.", NULL, 0,
     api__file_delete, NULL, NULL, NULL, NULL},
    {"GET", FILES_ROUTE "/{id}/content", "Its bytes.", NULL, 0, api__file_content, NULL, NULL, NULL, NULL},
    {"POST", "/v1/batches", "Runs each line of a file as a request, behind all other requests (BATCHES.md).",
     FIELDS(api__batch_fields), NULL, api__decode_batch, NULL, NULL, NULL},
    {"GET", "/v1/batches", "Those of the caller's key, newest first; `?limit=` (1 to 100, 20) and `?after=`.", NULL, 0,
     api__batch_list, NULL, NULL, NULL, NULL},
    {"GET", "/v1/batches/{id}", "One of them.", NULL, 0, api__batch_get, NULL, NULL, NULL, NULL},
    {"POST", "/v1/batches/{id}/cancel", "Ends it; what is done by then is in its files.", NULL, 0, api__batch_cancel,
     NULL, NULL, NULL, NULL},
    {"POST", MESSAGE_BATCHES_ROUTE,
     "Anthropic's message batches: each of `requests` is run behind all other requests (BATCHES.md).",
     FIELDS(api__message_batch_fields), NULL, api__decode_message_batch, NULL, NULL, NULL},
    {"GET", MESSAGE_BATCHES_ROUTE,
     "Those of the caller's key, newest first; `?limit=` (1 to 1000, 20), and `&after_id=` or `&before_id=`: the page "
     "behind or before that one.",
     NULL, 0, api__message_batch_list, NULL, NULL, NULL, NULL},
    {"GET", MESSAGE_BATCHES_ROUTE "/{id}", "One of them.", NULL, 0, api__batch_get, NULL, NULL, NULL, NULL},
    {"DELETE", MESSAGE_BATCHES_ROUTE "/{id}", "Removes one that has ended, with its results.", NULL, 0,
     api__message_batch_delete, NULL, NULL, NULL, NULL},
    {"POST", MESSAGE_BATCHES_ROUTE "/{id}/cancel", "Ends it; requests that are not done by then are `canceled`.", NULL,
     0, api__batch_cancel, NULL, NULL, NULL, NULL},
    {"GET", MESSAGE_BATCHES_ROUTE "/{id}/results",
     "What has become of each request of one that has ended, as lines of JSON (application/x-jsonl).", NULL, 0,
     api__message_batch_results, NULL, NULL, NULL, NULL},
    {"DELETE", "/v1/cache",
     "Drops what the prefix caches hold and nobody uses, in memory and on disk, of all models or of the one in "
     "`?model=`; see OBSERVABILITY.md.",
     NULL, 0, api__clear_cache, NULL, NULL, NULL, NULL},
    {"GET", "/health", "The process is alive.", NULL, 0, api__health, NULL, NULL, NULL, NULL},
    {"GET", "/ready",
     "Every model that is to be loaded is, and the server is not shutting down; else 503 with the reason.", NULL, 0,
     api__ready, NULL, NULL, NULL, NULL},
    {"GET", "/v1/status", "Running requests, engines, memory, latencies; see OBSERVABILITY.md.", NULL, 0, api__status,
     NULL, NULL, NULL, NULL},
    {"GET", "/metrics", "Prometheus text format; see METRICS.md.", NULL, 0, api__metrics, NULL, NULL, NULL, NULL},
};
const int api__n_routes = ARRAY_LEN(api__routes);
