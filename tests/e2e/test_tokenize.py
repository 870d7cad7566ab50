"""/tokenize, /detokenize and /apply-template show exactly what a request makes the model read."""
import functools

import jinja2.sandbox
import pytest
from gguf import GGUFReader

from harness import Server

TEXTS = ["", "Hello, world!", "  two  spaces\n\n\tand a tab", "naïve café — „Zitat“ … 北京 東京 서울 🎉👩‍👩‍👧‍👦",
         "def f(x):\n    return x**2  # 12345.678", "<|im_start|>user\nhi<|im_end|>"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there."},
        {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And?"}]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(smollm, text):
    for options in ({}, {"parse_special": False}):
        ids = smollm.tokens(text, **options)
        assert smollm.ok("/detokenize", {"tokens": ids})["content"] == text
    reply = smollm.ok("/tokenize", {"content": text})
    assert reply["count"] == len(reply["tokens"])


def test_pieces(smollm):
    """Pieces that are whole UTF-8 come as strings, others as bytes; together they are the text."""
    text = "Hi 👩‍👩‍👧‍👦!"
    reply = smollm.ok("/tokenize", {"content": text, "with_pieces": True})
    pieces = [token["piece"] for token in reply["tokens"]]
    assert {type(piece) for piece in pieces} == {str, list}
    assert b"".join(p.encode() if isinstance(p, str) else bytes(p) for p in pieces).decode() == text
    assert [token["id"] for token in reply["tokens"]] == smollm.tokens(text)


def test_special_tokens(smollm):
    assert len(smollm.tokens("<|im_start|>")) == 1
    assert len(smollm.tokens("<|im_start|>", parse_special=False)) > 1
    assert smollm.tokens("a", add_special=True) == smollm.tokens("a"), "this model has no begin of text"


def test_begin_of_text(parity_model):
    """Where the model has one, it is added on demand, and once."""
    with Server(parity_model("gemma2"), "--kv-memory", "64M") as server:
        plain = server.ok("/tokenize", {"content": "ab", "add_special": False})["tokens"]
        full = server.ok("/tokenize", {"content": "ab", "add_special": True})["tokens"]
        assert full[-len(plain):] == plain
        prompt_tokens = [server.complete("ab", max_tokens=1, add_special_tokens=add)["usage"]["prompt_tokens"]
                         for add in (False, True)]
        assert prompt_tokens == [max(1, len(plain)), len(full)]


@functools.cache
def reference_template(path):
    """As transformers sets jinja2 up."""
    field = GGUFReader(path).fields["tokenizer.chat_template"]
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(bytes(field.parts[field.data[0]]).decode())


@pytest.mark.parametrize("turns", [1, 2, 4])
@pytest.mark.parametrize("open_turn", [True, False])
def test_apply_template(smollm, smollm_path, turns, open_turn):
    messages = CHAT[4 - turns:]
    got = smollm.ok("/apply-template", {"messages": messages, "add_generation_prompt": open_turn})["prompt"]
    assert got == reference_template(smollm_path).render(messages=messages, add_generation_prompt=open_turn,
                                                         bos_token="<|im_start|>", eos_token="<|im_end|>")
    ids = smollm.ok("/tokenize", {"messages": messages, "add_generation_prompt": open_turn})["tokens"]
    assert ids == smollm.tokens(got)
    usage = smollm.chat(messages, max_tokens=1, add_generation_prompt=open_turn)["usage"]
    assert usage["prompt_tokens"] == len(ids)


def test_continue_final_message(smollm):
    body = {"messages": [*CHAT[:2], {"role": "assistant", "content": "Hello, my"}], "add_generation_prompt": False,
            "continue_final_message": True}
    assert smollm.ok("/apply-template", body)["prompt"].endswith("assistant\nHello, my")


def test_template_variables(new_scripted, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{{ greeting }} {{ messages[0].content }}{{ tools[0].function.name if tools }}")
    with new_scripted("--chat-template", template) as server:
        body = {"messages": CHAT[1:2], "chat_template_kwargs": {"greeting": "Ahoy:"},
                "tools": [{"type": "function", "function": {"name": "f"}}]}
        assert server.ok("/apply-template", body)["prompt"] == "Ahoy: Hi there.f"


def test_models(smollm):
    data = smollm.http.get("/v1/models").json()
    assert data["object"] == "list" and data["data"][0]["id"] == "smol"
    one = smollm.http.get("/v1/models/smol").json()
    assert one == data["data"][0] and one["object"] == "model"
    reply = smollm.http.get("/v1/models/a/b")
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "model")
