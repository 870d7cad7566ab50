"""Answers do not depend on what else is in the batch: 32 different requests give together, bit for bit, what each gives
alone, with any number of threads, any chunking of the prompts, with and without prefix hits and guessed tokens, preempted
or not, before and after a crash. One baseline for all of it: one thread, whole prompts, one request at a time, a cold
cache, no guesses.
"""
import contextlib

import pytest

from harness import Server, buckets, metric
from invariance import (OPTIONS, ask, ask_alone, ask_together, assert_equal_answers, assert_equal_choice, first_difference,
                        forget, salad)

# Lengths of prompts, with those around the borders of pages (32 tokens) and of chunks (7), and of answers. Most answers
# are long, so that most steps have many rows.
pytestmark = pytest.mark.cpu_only("other backends promise no bytes")

PROMPTS = [1, 2, 6, 7, 8, 14, 15, 20, 27, 31, 32, 33, 40, 48, 55, 63, 64, 65, 70, 80, 90, 96, 97, 110, 127, 128, 129,
           150, 190, 230, 310, 400]
OUTPUTS = [68, 96, 8, 66, 69, 62, 64, 16, 60, 58, 24, 66, 62, 55, 12, 58, 48, 26, 52, 50, 46, 9, 51, 45, 50, 54, 32,
           48, 70, 49, 47, 51]

GROWING = [i for i in range(32) if PROMPTS[i] < 64 and PROMPTS[i] % 32 + OUTPUTS[i] > 64]  # two more pages at least

SAMPLING = [
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 0.8, "seed": 2, "top_p": 0.9},
    {"temperature": 1.3, "seed": 3, "top_k": 40},
    {"temperature": 1.1, "seed": 4, "min_p": 0.05},
    {"temperature": 0.9, "seed": 5, "typical_p": 0.8},
    {"temperature": 0.7, "seed": 6, "presence_penalty": 0.8, "frequency_penalty": 0.4},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"temperature": 0.6, "seed": 8, "dry_multiplier": 0.8, "dry_allowed_length": 1},
    {"temperature": 1, "seed": 9, "xtc_probability": 0.6, "xtc_threshold": 0.08},
    {"temperature": 1, "seed": 10, "logit_bias": {"198": -100, "260": 3.5, "28": 2}},
    {"temperature": 1.5, "seed": 11, "top_n_sigma": 1.2},
    {"temperature": 0, "frequency_penalty": 0.9, "min_tokens": 20},
    {"temperature": 1, "seed": 13, "top_p": 0.95, "top_k": 100, "min_p": 0.01, "repetition_penalty": 1.1},
    {"temperature": 2, "seed": -14, "top_k": 8, "stop": ["zebra crossing", ";;"]},
    {"temperature": 0, "dry_multiplier": 1.2, "dry_sequence_breakers": [",", "\n"]},
]


def prompt_of(server, i, length):
    """Token ids. Every fourth one shares its beginning with others, so that a batch has prefix hits."""
    return server.tokens(salad("shared" if i % 4 == 3 else i, 400))[:length]


def make_request(server, i):
    body = {"max_tokens": OUTPUTS[i], "ignore_eos": i % 8 != 1, **SAMPLING[i % len(SAMPLING)], "stream": i % 2 == 1}
    if i % 5 == 2:  # a conversation: its template adds some 30 tokens
        logprobs = {"logprobs": True, "top_logprobs": 3} if i % 3 == 0 else {}
        content = salad(i, max(1, PROMPTS[i] // 2))
        return "/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **logprobs, **body}
    logprobs = {"logprobs": 2} if i % 3 == 0 else {}
    return "/v1/completions", {"prompt": prompt_of(server, i, PROMPTS[i]), **logprobs, **body}


def choices_request(server, length, n, **fields):
    return "/v1/completions", {"prompt": prompt_of(server, 50, length), "n": n, "max_tokens": 20, "ignore_eos": True,
                               "temperature": 1, "seed": 31, **fields}


def options_of(threads, chunk, context=1024):
    """The baseline, which is (1, 0), guesses no tokens."""
    return ["--max-context", context, "--threads", threads, *(["--prefill-chunk", chunk] if chunk else []),
            "--speculation", "auto" if chunk or threads > 1 else "off", *OPTIONS]


@pytest.fixture(scope="module")
def served(smollm_path):
    """Servers by number of threads and chunk of the prompts (0: in one piece)."""
    with contextlib.ExitStack() as stack:
        servers = {}

        def get(threads, chunk):
            if (threads, chunk) not in servers:
                server = Server(smollm_path, "--kv-memory", "256M", *options_of(threads, chunk))
                servers[threads, chunk] = stack.enter_context(server)
            return servers[threads, chunk]
        yield get


@pytest.fixture(scope="module")
def requests(served):
    return [make_request(served(1, 0), i) for i in range(32)]


@pytest.fixture(scope="module")
def alone(served, requests):
    answers = ask_alone(served(1, 0), requests)
    different = {tuple(choice["ids"]) for choices in answers for choice in choices}
    assert len(different) == len(requests), "the requests are to be different ones"
    return answers


# ---- what the steps were like ----

def median_rows(before, after):
    """Bounds of the median of rows per step between two readings of the metrics: (more than, at most)."""
    name = "tandem_rows_per_step"
    counts = [(le, new - old) for (le, new), (_, old) in zip(buckets(after, name), buckets(before, name), strict=True)]
    total = counts[-1][1]
    i = next(i for i, (_, seen) in enumerate(counts) if seen > total / 2)
    return counts[i - 1][0] if i else 0, counts[i][0]


@contextlib.contextmanager
def busy_steps(server):
    """The body's steps have 16 rows and more in the median, and some of them mix prefill and decode."""
    server.wait_idle()
    before = server.metrics()
    yield
    server.wait_idle()
    after = server.metrics()
    more_than, at_most = median_rows(before, after)
    mixed = metric(after, "tandem_engine_steps_total", phase="mixed") - metric(before, "tandem_engine_steps_total", phase="mixed")
    steps = metric(after, "tandem_engine_steps_total") - metric(before, "tandem_engine_steps_total")
    print(f"{steps:.0f} steps, {mixed:.0f} of them mixed, median of {more_than + 1:.0f} to {at_most:.0f} rows")
    assert more_than >= 15, f"the median step has {more_than + 1:.0f} to {at_most:.0f} rows"
    assert mixed > 0, "no step mixes prefill and decode"


# ---- together and alone ----

@pytest.mark.parametrize(("threads", "chunk"), [(1, 0), (2, 0), (1, 7), (2, 7)])
def test_together_as_alone(served, requests, alone, threads, chunk):
    server = served(threads, chunk)
    forget(server)
    with busy_steps(server):
        together = ask_together(server, requests)
    assert_equal_answers(requests, alone, together)


def test_guessed_tokens_and_small_prefills(smollm_path, requests, alone):
    """Every guess there is, and prompts in as small pieces as steps that are to be short allow."""
    with Server(smollm_path, "--kv-memory", "256M", *options_of(2, 0), "--speculation", "on", "--max-itl-factor",
                1.05) as server:
        together = ask_together(server, requests)
        server.wait_idle()
        assert server.stats()["spec_draft_tokens"] > 1000
    assert_equal_answers(requests, alone, together)


def test_int8_k_and_v(smollm_path, requests):
    """Within this type of K and V: alone in whole prompts, together in pieces, guessed and preempted."""
    with Server(smollm_path, "--kv-memory", "256M", *options_of(1, 0), "--kv-type", "q8") as server:
        asked = [choices_request(server, 20, 8, max_tokens=64), *(requests[i] for i in GROWING)]
        expected = ask_alone(server, asked)
    with Server(smollm_path, "--kv-memory", "6M", *options_of(2, 7, 256), "--kv-type", "q8",
                "--reserve-output", "off") as server:
        together = ask_together(server, asked)
        server.wait_idle()
        assert server.stats()["preemptions"] > 0
    assert_equal_answers(asked, expected, together)


def test_again_after_a_crash(served, requests, alone):
    server = served(2, 0)
    server.kill_engine()
    assert server.engine()["restarts"] >= 1
    assert_equal_answers(requests, alone, ask_together(server, requests))


def test_preempted_and_resumed(served, smollm_path, requests, alone):
    """A pool that has room for the prompts and not for the answers: the youngest give way, again and again."""
    choices = choices_request(served(1, 0), 20, 8, max_tokens=64)  # eight times two more pages
    expected = [*ask_alone(served(1, 0), [choices]), *(alone[i] for i in GROWING)]
    asked = [choices, *(requests[i] for i in GROWING)]
    with Server(smollm_path, "--kv-memory", "12M", *options_of(2, 0, 256), "--reserve-output", "off") as server:
        together = ask_together(server, asked)
        server.wait_idle()
        print(f"{server.stats()['preemptions']} preemptions of {len(asked) + 7} sequences")
        assert server.stats()["preemptions"] >= 3
    assert_equal_answers(asked, expected, together)


# ---- prefix hits ----

def cached_tokens(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


@pytest.fixture(scope="module")
def hits(served):
    """Prompts that end, or part from what is cached, at the border of a page, one token before it and one after it:
    what fills the cache, and [(request, cached tokens expected, answer with a cold cache)]."""
    server = served(1, 0)
    page = server.engine()["page_tokens"]
    cached, other = (server.tokens(salad(seed, 200))[:4 * page] for seed in ("cached", "other"))
    assert first_difference(cached, other) < page
    found = []
    for end in (2 * page - 1, 2 * page, 2 * page + 1):
        whole = end // page * page
        # A hit on the whole prompt computes the last token again, for its logits.
        found.append((cached[:end], min(whole, end - 1)))
        assert cached[end] != other[end]
        found.append((cached[:end] + other[end:end + 20], whole))
    body = {"max_tokens": 12, "ignore_eos": True, "temperature": 1, "seed": 21}
    requests = [("/v1/completions", {"prompt": prompt, **body}) for prompt, _ in found]
    return cached, list(zip(requests, [expected for _, expected in found], ask_alone(server, requests), strict=True))


@pytest.mark.parametrize(("threads", "chunk"), [(1, 0), (2, 7)])
def test_prefix_hits(served, hits, threads, chunk):
    cached, cases = hits
    server = served(threads, chunk)
    for request, expected, cold in cases:
        forget(server)
        server.complete(cached, max_tokens=1)
        choices, usage = ask(server, request)
        assert cached_tokens(usage) == expected, f"a prompt of {usage['prompt_tokens']} tokens"
        assert_equal_choice(cold[0], choices[0], f"{expected} cached tokens of {usage['prompt_tokens']}")
        choices, usage = ask(server, (request[0], {**request[1], "cache_prompt": False}))
        assert cached_tokens(usage) == 0
        assert_equal_choice(cold[0], choices[0], "without the cache")


def test_hits_on_what_was_generated(served):
    """A second turn: the prompt holds the first answer, whose pages decoding has filled."""
    server = served(2, 0)
    page = server.engine()["page_tokens"]
    body = {"temperature": 1, "seed": 5, "ignore_eos": True}
    prompt = server.tokens(salad("turns", 40))[:page + 5]
    forget(server)
    choices, _ = ask(server, ("/v1/completions", {"prompt": prompt, "max_tokens": 2 * page, **body}))
    second = [*prompt, *choices[0]["ids"], *server.tokens(" And then")]
    request = ("/v1/completions", {"prompt": second, "max_tokens": 16, **body})
    warm, usage = ask(server, request)
    assert cached_tokens(usage) == 3 * page
    assert_equal_answers([request], ask_alone(served(1, 0), [request]), [warm])


def test_hits_of_a_crowd(served):
    """Prompts that share what one of them is just computing wait for it, and answer as alone."""
    server = served(2, 0)
    stem = server.tokens(salad("crowd", 200))[:160]
    requests = [("/v1/completions", {"prompt": [*stem[:160 - 9 * i], *stem[i:i + 3]], "max_tokens": 16, "ignore_eos": True,
                                     "temperature": 1, "seed": i}) for i in range(10)]
    expected = ask_alone(served(1, 0), requests)
    forget(server)
    before = server.stats()["cached_tokens"]
    together = ask_together(server, requests)
    server.wait_idle()
    assert server.stats()["cached_tokens"] > before
    assert_equal_answers(requests, expected, together)


# ---- choices ----

@pytest.mark.parametrize("length", [45, 64])
def test_choices(served, length):
    """A choice's random numbers are those of its index, so it is the same whatever n is; and among other requests."""
    server = served(1, 0)
    request = choices_request(server, length, 4)
    four = ask_alone(server, [request])[0]
    assert len({tuple(choice["ids"]) for choice in four}) == 4
    for n in (1, 2, 3):
        fewer = ask_alone(server, [choices_request(server, length, n)])[0]
        for k in range(n):
            assert_equal_choice(four[k], fewer[k], f"choice {k} of {n}")
    others = [choices_request(server, 90 + i, 1 + i % 3, seed=i, stream=i % 2 == 1) for i in range(4)]
    for crowd in (served(2, 0), served(2, 7)):
        streamed = choices_request(server, length, 4, stream=True)
        answers = ask_together(crowd, [request, *others, streamed])
        assert_equal_answers([request, streamed], [four, four], [answers[0], answers[-1]])
