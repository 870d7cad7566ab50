"""--warm-prompts: what requests share with a warm prompt is in the prefix cache before anybody asks, and stays there."""
import json
import time

import pytest

from harness import BACKEND, Server, failing_server, metric
from invariance import ask, assert_equal_choice, salad

SYSTEM = "You answer questions about rivers. " + salad("system", 150)
LONG = salad("text", 150)
BODY = {"max_tokens": 8, "ignore_eos": True, "temperature": 1, "seed": 3}


def write(path, prompts, lines=True):
    path.write_text("\n".join(map(json.dumps, prompts)) + "\n" if lines else json.dumps(prompts, indent=2))
    return path


def warm_prompts():
    return [{"messages": [{"role": "system", "content": SYSTEM}]},
            {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": LONG}]},
            {"prompt": LONG}]


def options(file, *more, memory="64M"):
    return ["--threads", 1, "--kv-memory", memory, "--warm-prompts", file, *more]


def warm(server):
    return server.model_status()["warm_prompts"]


def wait_warm(server, rounds=1):
    return server.wait_for(lambda: warm(server)["rounds"] >= rounds and not warm(server)["running"] and warm(server),
                           "warm prompts in the cache", 60)


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


def chat(*messages):
    return "/v1/chat/completions", {"messages": [{"role": role, "content": content} for role, content in messages], **BODY}


def check_hit(server, request, shared):
    """A request takes the whole pages of the first `shared` tokens from the cache, and gets what it gets without it."""
    page = server.engine()["page_tokens"]
    expected, _ = ask(server, (request[0], {**request[1], "cache_prompt": False}))
    choices, usage = ask(server, request)
    assert cached(usage) == shared // page * page > 0, usage
    if BACKEND == "cpu":
        assert_equal_choice(expected[0], choices[0], "with a warm prefix")


def n_rendered(server, request, **fields):
    text = server.ok("/apply-template", {"messages": request[1]["messages"], **fields})["prompt"]
    return len(server.tokens(text, add_special=False, parse_special=True))


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
@pytest.mark.parametrize("lines", [True, False])
def test_requests_find_what_they_share(tiny_path, tmp_path, lines):
    with Server(tiny_path, *options(write(tmp_path / "warm", warm_prompts(), lines))) as server:
        found = wait_warm(server)
        assert found["prompts"] == found["cached"] == 3 and found["left_out"] == 0
        assert found["computed_tokens"] < found["tokens"], "the second prompt begins as the first"
        question = chat(("system", SYSTEM), ("user", "What is a delta?"))
        alone = n_rendered(server, chat(("system", SYSTEM)), add_generation_prompt=False)
        check_hit(server, question, alone + 3)  # <|im_start|>user and a line's end
        conversation = chat(("system", SYSTEM), ("user", LONG))
        check_hit(server, conversation, n_rendered(server, conversation, add_generation_prompt=False))
        check_hit(server, ("/v1/completions", {"prompt": LONG + " And then", **BODY}), len(server.tokens(LONG)))
        assert metric(server.metrics(), "tandem_requests_total") == 6, "warm prompts are nobody's requests"


def test_other_requests_do_not(tiny_path, tmp_path):
    with Server(tiny_path, *options(write(tmp_path / "warm", warm_prompts()))) as server:
        wait_warm(server)
        _, usage = ask(server, chat(("system", "Something else. " + SYSTEM), ("user", "What is a delta?")))
        assert cached(usage) == 0


def test_ready_waits_for_them_if_asked(tiny_path, tmp_path):
    with Server(tiny_path, *options(write(tmp_path / "warm", warm_prompts()), "--warm-wait")) as server:
        assert warm(server)["rounds"] >= 1, "ready, and they are not cached"
        assert "warm prompts are cached" in server.log()
    with failing_server(tiny_path, "--warm-wait") as (status, output):
        assert status == 2 and "--warm-prompts" in output


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
def test_after_a_crash(tiny_path, tmp_path):
    with Server(tiny_path, *options(write(tmp_path / "warm", warm_prompts()))) as server:
        first = wait_warm(server)
        server.kill_engine()
        again = wait_warm(server, first["rounds"] + 1)
        assert again["cached"] == 3
        _, usage = ask(server, chat(("system", SYSTEM), ("user", "And a ford?")))
        assert cached(usage) > 0


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
def test_kept_while_others_are_evicted(tiny_path, tmp_path):
    """Traffic that would push them out of a small pool: they are asked for again while it does."""
    file = write(tmp_path / "warm", warm_prompts()[:1])
    with Server(tiny_path, *options(file, "--max-context", 512, memory="2M")) as server:
        rounds = wait_warm(server)["rounds"]
        seed, deadline = 0, time.monotonic() + 120
        while warm(server)["rounds"] < rounds + 2 and time.monotonic() < deadline:
            ask(server, ("/v1/completions", {"prompt": salad(seed, 250), **BODY}))
            seed += 1
        assert server.stats()["pages_evicted"] > 0
        wait_warm(server, rounds + 2)
        _, usage = ask(server, chat(("system", SYSTEM), ("user", "What is a weir?")))
        assert cached(usage) > 0
        server.http.delete("/v1/cache")
        wait_warm(server, warm(server)["rounds"] + 1)  # clearing evicts too
        _, usage = ask(server, chat(("system", SYSTEM), ("user", "What is a weir?")))
        assert cached(usage) > 0


@pytest.mark.cpu_only("other backends keep no pages on disk")
def test_from_disk_after_a_restart(tiny_path, tmp_path):
    file, folder = write(tmp_path / "warm", warm_prompts()), tmp_path / "kv"
    with Server(tiny_path, *options(file, "--kv-disk-dir", folder)) as server:
        page = server.engine()["page_tokens"]
        tokens = wait_warm(server)["computed_tokens"]
        server.wait_for(lambda: server.stats()["disk_blocks_written"] >= tokens // page, "blocks on disk")
    with Server(tiny_path, *options(file, "--kv-disk-dir", folder)) as server:
        found = wait_warm(server)
        assert found["computed_tokens"] <= found["cached"], "of a whole-prompt hit the last token is computed again"


def test_too_many_for_the_pool(tiny_path, tmp_path):
    prompts = [{"prompt": salad(seed, 400)} for seed in range(20)]
    with Server(tiny_path, *options(write(tmp_path / "warm", prompts), "--max-context", 1024, memory="2M")) as server:
        found = wait_warm(server)
        assert 0 < found["cached"] < 20 and found["cached"] + found["left_out"] == 20
        pool = server.stats()["pages_total"] * server.engine()["page_tokens"]
        assert found["tokens"] <= pool / 2
        assert "warm prompts may take half of the KV pool" in server.log()
        assert "line=20" in server.log()


# ---- files that are refused ----

@pytest.mark.parametrize(("text", "words"), [
    ('{"prompt": "a"}\n\n{"prompt": tru}\n', ["line 3", "column 12"]),
    ('{"prompt": "a"}\n{"prompt": "b", "max_tokens": 5}\n', ["line 2", "'max_tokens'"]),
    ('[{"prompt": "a"},\n {"messages": [\n  {"role": "wizard", "content": "x"}]}]', ["line 3", "messages[0].role", "wizard"]),
    ('[{"prompt": "a"},\n {"messages": []}]', ["line 2", "1 to 4096 messages"]),
    ('{"messages": [{"role": "user", "content": "x"}], "prompt": "y"}', ["line 1", "exclude each other"]),
    ('{"tools": []}', ["line 1", "is needed"]),
    ('{"prompt": 5}', ["line 1", "expected a string"]),
    ("[1]", ["line 1", "An object"]),
    ("[]", ["no prompt"]),
    ("", ["no prompt"]),
    ("\n".join(['{"prompt": "a"}'] * 257), ["line 257", "At most 256"]),
])
def test_bad_files(tiny_path, tmp_path, text, words):
    file = tmp_path / "warm.json"
    file.write_text(text)
    with failing_server(tiny_path, "--warm-prompts", file) as (status, output):
        assert status == 2 and "--warm-prompts" in output and str(file) in output
        for word in words:
            assert word in output, (word, output)


def test_refusals(tiny_path, tmp_path):
    file = write(tmp_path / "warm", [{"prompt": "short"}, {"prompt": salad(1, 400)}])
    with failing_server(tiny_path, "--warm-prompts", file, "--max-context", 256) as (status, output):
        assert status == 2 and "line 2" in output and "maximum context length is 256" in output
    with failing_server(tiny_path, "--warm-prompts", file, "--prefix-cache", "off") as (status, output):
        assert status == 2 and "needs the prefix cache" in output
    with failing_server(tiny_path, "--warm-prompts", tmp_path / "none") as (status, output):
        assert status == 66 and "none" in output
