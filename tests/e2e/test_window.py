"""Sliding windows: generations that go over the window and over the pages that fall out of it give the same alone, in a
batch, in chunks, with prefix hits, after preemption. The models are small random ones of the Gemma families: windows of 24
tokens between layers that see everything, pages of 32 tokens; LFM2, whose convolutions have a window of 3; and Qwen3-Next,
whose states are behind a position and go into no window.
"""
import pytest

from harness import Server, metric, together
from invariance import OPTIONS, ask, ask_alone, ask_together, assert_equal_answers, forget

WINDOW = 24

# Prompts that end before, at and behind the border of the window and of pages; every answer crosses both.
pytestmark = pytest.mark.cpu_only("other backends promise no bytes")

PROMPTS = [1, 3, 8, 16, 22, 23, 24, 25, 31, 32, 33, 47, 48, 49, 56, 63, 64, 65, 80, 100, 127, 128, 150, 200]


def prompt_of(i, length):
    return [(7919 * (i + 1) + 104729 * k * (k + i % 5)) % 256 for k in range(length)]


def make_request(i, length, **fields):
    sampling = [{"temperature": 0}, {"temperature": 1, "seed": i}, {"temperature": 0.8, "seed": i, "min_p": 0.02}][i % 3]
    body = {"prompt": prompt_of(i, length), "max_tokens": 40 + 5 * (i % 12), "ignore_eos": True, "stream": i % 2 == 1}
    return "/v1/completions", {**body, **sampling, **fields}


def options_of(threads, chunk):
    return ["--threads", threads, *(["--prefill-chunk", chunk] if chunk else []), *OPTIONS]


@pytest.fixture(scope="module", params=["gemma2", "gemma3", "lfm2", "qwen3next"])
def path(request, parity_model):
    return parity_model(request.param)


@pytest.fixture(scope="module")
def requests():
    return [make_request(i, length) for i, length in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def reference(path):
    """One thread, prompts in one piece: what every answer is compared with."""
    with Server(path, "--kv-memory", "32M", *options_of(1, 0)) as server:
        yield server


@pytest.fixture(scope="module")
def alone(reference, requests):
    return ask_alone(reference, requests)


def test_answers_cross_the_window(alone):
    """And are of some variety, so that equal ones say something."""
    assert all(len(choices[0]["ids"]) > WINDOW for choices in alone)
    assert all(len(set(choices[0]["digests"])) == len(choices[0]["digests"]) for choices in alone)


@pytest.mark.parametrize(("threads", "chunk"), [(1, 0), (2, 0), (1, 7), (2, 7)])
def test_together_as_alone(path, requests, alone, threads, chunk):
    with Server(path, "--kv-memory", "32M", *options_of(threads, chunk)) as server:
        assert_equal_answers(requests, alone, ask_together(server, requests))
        server.kill_engine()
        assert_equal_answers(requests, alone, ask_together(server, requests))


def test_preempted_and_resumed(path, reference):
    """What is resumed computes again what had left the window."""
    requests = [make_request(i, 1 + 3 * i, n=8 if i % 4 == 1 else 1, max_tokens=200) for i in range(24)]
    alone = ask_alone(reference, requests)
    with Server(path, "--kv-memory", "2M", *options_of(2, 0), "--reserve-output", "off") as server:
        assert_equal_answers(requests, alone, ask_together(server, requests))
        server.wait_idle()
        print(f"{server.stats()['preemptions']} preemptions")
        assert server.stats()["preemptions"] >= 3


@pytest.mark.parametrize("end", [63, 64, 65, 95, 96, 97])
def test_prefix_hits(path, reference, end):
    """A hit needs the pages of the last window only; those before are gone, or belong to another answer."""
    if path.stem == "qwen3next":
        pytest.skip("its hits end where states are: test_states.py")
    page = reference.engine()["page_tokens"]
    stem = prompt_of(40, 130)
    parts = ("/v1/completions", {**make_request(1, 1)[1], "prompt": [*stem[:end], *prompt_of(41, 9)]})
    whole = ("/v1/completions", {**make_request(2, 1)[1], "prompt": stem[:end]})
    assert stem[end] != parts[1]["prompt"][end]
    expected = ask_alone(reference, [parts, whole])
    for request, answer, cached in ((parts, expected[0], end // page * page),
                                    (whole, expected[1], min(end // page * page, end - 1))):
        forget(reference)
        reference.complete(stem, max_tokens=60, ignore_eos=True)
        choices, usage = ask(reference, request)
        assert usage["prompt_tokens_details"]["cached_tokens"] == cached
        assert_equal_answers([request], [answer], [choices])


def test_choices(path, reference):
    """Choices share the page that the prompt ends in, and each leaves it by itself."""
    with Server(path, "--kv-memory", "32M", *options_of(2, 7)) as server:
        for length in (5, 40, 64):
            request = make_request(1, length, n=4)
            four = ask_alone(reference, [request])[0]
            first = ask_alone(reference, [make_request(1, length)])[0][0]
            assert len({tuple(choice["ids"]) for choice in four}) == 4
            assert four[0] == first
            crowd = [request, *(make_request(i, 3 * i + 1, n=1 + i % 3) for i in range(2, 10))]
            assert_equal_answers([request], [four], ask_together(server, crowd)[:1])


def test_killed_in_the_middle(path, reference):
    """What comes behind is the same, from pages that are in the window still and from blocks that were being filled."""
    requests = [make_request(i, length, n=1 + i % 2, max_tokens=200) for i, length in enumerate(PROMPTS)]
    n_sequences = sum(body["n"] for _, body in requests)
    alone = ask_alone(reference, requests)
    with Server(path, "--kv-memory", "32M", *options_of(2, 0)) as server:
        def kill_twice():
            for n in (500, 2000):
                server.wait_for(lambda: metric(server.metrics(), "tandem_generated_tokens_total") > n, "they run", 60)
                server.kill_engine()
        *answers, _ = together([*[lambda r=r: ask(server, r)[0] for r in requests], kill_twice])
        assert_equal_answers(requests, alone, answers)
        stats = server.stats()  # of the last engine alone
        print(f"{n_sequences} sequences: {stats['rows_prefill']} tokens computed again, {stats['adopted_tokens']} adopted")
        assert stats["adopted_tokens"] > 0 and stats["adopted_blocks_dropped"] == 0
        if path.stem != "qwen3next":  # which goes on from the last border
            assert stats["rows_prefill"] <= 2 * n_sequences + 32
