"""The mlx backend on SmolLM2 itself, in f32 on MLX's CPU device: where the other end-to-end tests take a small random model
with --backend mlx (TANDEM_TEST_BACKEND), these look at what the real one says, and how far it is from the cpu backend."""
import re
import subprocess

import pytest

from ask import chat, complete, finish, ids, text
from harness import BACKEND, BUILD, Server, missing, together

pytestmark = pytest.mark.skipif(BACKEND != "cpu", reason="these servers choose their backend themselves")
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def mlx(smollm_path):
    if not (BUILD / "tandem_mlx.so").exists():
        missing("the mlx backend (make mlx)")
    with Server(smollm_path, "--backend", "mlx", "--kv-type", "f32", "--kv-memory", "512M", "--max-context", 2048,
                "--max-batch-tokens", 64) as server:
        yield server


def test_says_what_it_is(mlx):
    backend = mlx.status()["models"][0]["engine"]["backend"]
    assert re.match(r"mlx \d+\.\d+\.\d+ ", backend)
    version = subprocess.run([mlx.arguments[0], "version"], capture_output=True, text=True, check=True).stdout
    assert backend.split()[1] in version


def test_greedy_answer_is_that_of_the_cpu(mlx, smollm_path):
    """On the reference kernels and in f32 both compute the same to a few units in the last place: the same words."""
    question = {"temperature": 0, "max_tokens": 12, "return_token_ids": True}
    with Server(smollm_path, "--backend", "cpu", "--cpu-kernels", "reference", "--kv-type", "f32", "--max-context", 512,
                "--kv-memory", "64M") as cpu:
        assert ids(complete(mlx, PROMPT, **question)) == ids(complete(cpu, PROMPT, **question))


def test_logprobs_are_near(mlx, smollm):
    """How far MLX is from the cpu backend (int8 activations, f16 pages): bytes are promised on the latter alone."""
    fields = {"temperature": 0, "max_tokens": 1, "logprobs": 5}
    here, there = (complete(s, PROMPT, **fields)["choices"][0]["logprobs"]["top_logprobs"][0] for s in (mlx, smollm))
    common = set(here) & set(there)
    assert len(common) >= 4
    distance = max(abs(here[token] - there[token]) for token in common)
    print(f"largest difference of a logprob between mlx and cpu: {distance:.3f}")
    assert distance < 0.5


def test_together_as_alone(mlx):
    fields = {"temperature": 0, "max_tokens": 6, "return_token_ids": True}
    prompts = [PROMPT, "One, two, three,", "Dear Sir or Madam,"]
    alone = [ids(complete(mlx, p, **fields)) for p in prompts]
    assert together([lambda p=p: ids(complete(mlx, p, **fields)) for p in prompts]) == alone


def test_chat_with_a_prefix_hit(tiny_path):
    """On the small random model: the real one takes a minute for more than a page of 256 tokens."""
    system = "You answer briefly. " * 70
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Name a color."}]
    with Server(tiny_path, "--backend", "mlx", "--kv-type", "f32", "--kv-memory", "64M") as server:
        first = chat(server, messages, temperature=0, max_tokens=6)
        again = chat(server, messages, temperature=0, max_tokens=6)
    assert text(first) == text(again) and finish(first) in ("stop", "length")
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= 256
