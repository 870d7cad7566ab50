"""The fields that the official clients can send are all known here: obeyed, or refused by name, but never only ignored. Null
counts as absent, and still is named when the field is not known."""
import anthropic.types.beta.message_count_tokens_params
import anthropic.types.beta.message_create_params
import anthropic.types.message_create_params
import ollama
import openai.types.chat.completion_create_params
import openai.types.completion_create_params
import openai.types.responses.response_create_params
import pytest

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

HELLO = [{"role": "user", "content": "hi"}]
OPENAI, CLAUDE = openai.types, anthropic.types


def named(params):
    """The names of a typed dictionary's members, of those that it inherits too."""
    return set(params.__annotations__)


def fields_of(model):
    return {f.alias or name for name, f in model.model_fields.items()}


CASES = {
    "chat": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 1},
             named(OPENAI.chat.completion_create_params.CompletionCreateParamsBase)),
    "completions": ("/v1/completions", {"prompt": "hi", "max_tokens": 1},
                    named(OPENAI.completion_create_params.CompletionCreateParamsBase)),
    "responses": ("/v1/responses", {"input": "hi", "max_output_tokens": 1},
                  named(OPENAI.responses.response_create_params.ResponseCreateParamsBase)),
    "messages": ("/v1/messages", {"messages": HELLO, "max_tokens": 1},
                 named(CLAUDE.message_create_params.MessageCreateParamsBase)
                 | named(CLAUDE.beta.message_create_params.MessageCreateParamsBase)),
    "count_tokens": ("/v1/messages/count_tokens", {"messages": HELLO},
                     named(CLAUDE.beta.message_count_tokens_params.MessageCountTokensParams)),
    "api/chat": ("/api/chat", {"messages": HELLO, "stream": False, "options": {"num_predict": 1}},
                 fields_of(ollama._types.ChatRequest)),
    "api/generate": ("/api/generate", {"prompt": "hi", "stream": False, "options": {"num_predict": 1}},
                     fields_of(ollama._types.GenerateRequest)),
    "options": ("/api/chat", {"messages": HELLO, "stream": False}, fields_of(ollama.Options)),
}


@pytest.mark.parametrize("api", CASES)
def test_fields_of_the_official_clients_are_known(tiny, api):
    path, body, fields = CASES[api]
    assert len(fields) > 8
    nulls = {name: None for name in sorted(fields)}
    if api == "options":
        body = {**body, "options": {**nulls, "num_predict": 1}}
    else:
        body = {**nulls, **body}
    reply = tiny.post(path, {**body, "model": "tiny" if path.startswith("/api") else None, "no_such_field": None})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-tandem-ignored-fields"] == "no_such_field"
