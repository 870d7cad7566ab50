"""Every sampling field through the official client, each by an effect that only this field has.

`prompt` tests run on a real model; what a rule says about distributions is checked against the logprobs that the server
reports: they are those of the raw logits, before any penalty or filter.
"""
import math

import pytest

from ask import complete, finish, ids, text, texts

PROMPT = "Once upon a time"
REAL_WORDS = pytest.mark.cpu_only("it looks at what the real model says, which takes minutes on MLX without a GPU")
OUTPUT = {"max_tokens": 12, "return_token_ids": True}
WATCHED = {"max_tokens": 12, "logprobs": 20}  # completions: the 20 best of each position


@pytest.fixture(scope="module")
def greedy(smollm):
    answer = complete(smollm, PROMPT, temperature=0, **OUTPUT)
    assert len(ids(answer)) == 12
    return answer


def positions(answer, index=0):
    """[(token, logprob, {token: logprob of the best})] of a completion."""
    logprobs = answer["choices"][index]["logprobs"]
    return list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True))


# ---- determinism ----

def test_seed_decides(smollm):
    first, again = (complete(smollm, PROMPT, seed=7, **OUTPUT) for _ in range(2))
    other = complete(smollm, PROMPT, seed=8, **OUTPUT)
    assert ids(first) == ids(again)
    assert ids(first) != ids(other)
    assert first["system_fingerprint"] == other["system_fingerprint"] != ""


def test_seed_takes_all_of_64_bits(tiny):
    values = [0, -1, 2**63 - 1, -(2**63)]
    answers = [tuple(ids(complete(tiny, PROMPT, seed=seed, **OUTPUT))) for seed in values]
    assert len(set(answers)) == len(values), f"seeds {values} do not all differ: {answers}"


def test_without_seed_answers_differ(tiny):
    answers = {tuple(ids(complete(tiny, PROMPT, **OUTPUT))) for _ in range(3)}
    assert len(answers) == 3


def test_temperature_0_is_greedy(smollm, greedy):
    for seed in (1, 2):
        assert ids(complete(smollm, PROMPT, temperature=0, seed=seed, **OUTPUT)) == ids(greedy)
    for token, logprob, best in positions(complete(smollm, PROMPT, temperature=0, **WATCHED)):
        assert logprob == max(best.values()), f"{token!r} is not the most likely of {best}"


def test_temperature_widens(smollm):
    """A high temperature picks what a low one practically never does."""
    def mean_logprob(temperature):
        answer = complete(smollm, PROMPT, temperature=temperature, seed=3, n=4, **WATCHED)
        found = [logprob for i in range(4) for _, logprob, _ in positions(answer, i)]
        return sum(found) / len(found)
    cold, warm, hot = mean_logprob(0.2), mean_logprob(1), mean_logprob(20)
    assert cold > warm > hot, (cold, warm, hot)
    assert hot < -8, "at temperature 20 nearly every token is as likely as any other"


# ---- filters ----

@pytest.mark.parametrize("fields", [{"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1}, {"top_n_sigma": 0.0001}, {"top_p": 0}],
                         ids=lambda f: "-".join(f"{k}={v}" for k, v in f.items()))
def test_narrowest_filter_is_greedy(smollm, greedy, fields):
    answer = complete(smollm, PROMPT, temperature=1.5, seed=11, **fields, **OUTPUT)
    assert ids(answer) == ids(greedy)


@pytest.mark.parametrize("fields", [{"top_k": 0}, {"top_k": -1}, {"top_p": 1}, {"min_p": 0}, {"typical_p": 1},
                                    {"top_n_sigma": -1}, {"top_n_sigma": 0}, {"xtc_probability": 0}, {"presence_penalty": 0},
                                    {"frequency_penalty": 0}, {"repetition_penalty": 1}, {"dry_multiplier": 0},
                                    {"temperature": 1}, {"logit_bias": {}}, {"xtc_probability": 1, "xtc_threshold": 0.6}],
                         ids=lambda f: "-".join(f"{k}={v}" for k, v in f.items()))
def test_value_that_means_off_changes_nothing(tiny, fields):
    assert ids(complete(tiny, PROMPT, seed=5, **fields, **OUTPUT)) == ids(complete(tiny, PROMPT, seed=5, **OUTPUT))


def test_top_k_keeps_the_k_best(smollm):
    answer = complete(smollm, PROMPT, temperature=5, top_k=3, n=4, seed=1, **WATCHED)
    below_best = 0
    for i in range(4):
        for token, logprob, best in positions(answer, i):
            third = sorted(best.values(), reverse=True)[2]
            assert logprob >= third, f"{token!r} ({logprob}) is not among the three best ({third})"
            below_best += logprob < max(best.values())
    assert below_best > 10, "with temperature 5 most tokens are not the best one"


def test_top_p_keeps_the_nucleus(smollm):
    top_p = 0.5
    for token, logprob, best in positions(complete(smollm, PROMPT, top_p=top_p, seed=2, **WATCHED)):
        above = sum(math.exp(l) for l in best.values() if l > logprob)
        assert above < top_p + 1e-4, f"{token!r}: tokens of {above} in all are more likely"


def test_min_p_drops_the_unlikely(smollm):
    min_p = 0.3
    for token, logprob, best in positions(complete(smollm, PROMPT, temperature=1, min_p=min_p, seed=4, n=2, **WATCHED)):
        assert logprob >= max(best.values()) + math.log(min_p) - 1e-4, f"{token!r} is too unlikely"


def test_typical_p_keeps_one_at_its_least(smollm, greedy):
    """With next to no mass to keep, one token is left: the one whose surprise is nearest to the entropy, whatever the
    seed; and that is not always the most likely one."""
    answers = {tuple(ids(complete(smollm, PROMPT, typical_p=1e-6, seed=seed, **OUTPUT))) for seed in range(3)}
    assert len(answers) == 1
    assert answers != {tuple(ids(greedy))}


def test_top_n_sigma_narrows(smollm):
    answer = complete(smollm, PROMPT, temperature=20, top_n_sigma=1, seed=6, n=4, **WATCHED)
    wide = complete(smollm, PROMPT, temperature=20, seed=6, n=4, **WATCHED)

    def mean(answer):
        found = [logprob for i in range(4) for _, logprob, _ in positions(answer, i)]
        return sum(found) / len(found)
    assert mean(answer) > mean(wide) + 3, "top_n_sigma=1 must keep a hot sampler near the best tokens"


@REAL_WORDS
def test_xtc_excludes_top_choices(smollm):
    """With probability 1: whenever two or more tokens reach the threshold, only the least likely of them may stay."""
    threshold, excluded = 0.1, 0
    answer = complete(smollm, PROMPT, xtc_probability=1, xtc_threshold=threshold, seed=9, n=4, **WATCHED)
    for i in range(4):
        for token, logprob, best in positions(answer, i):
            top = sorted((l for l in best.values() if math.exp(l) >= threshold + 1e-4), reverse=True)
            if len(top) >= 2:
                excluded += 1
                assert logprob <= top[-1] + 1e-6, f"{token!r} ({logprob}) is one of the excluded {top}"
    assert excluded > 3, "the prompt never had two top choices"


# ---- penalties ----

REPETITIVE = "la Femme, la Femme, la Femme, la Femme, la Femme, la Femme,"


def penalized_greedy(smollm, prompt=REPETITIVE, **penalties):
    """Greedy decoding under additive penalties, checked at each position: no token of the best 20 may have more left
    than the chosen one."""
    presence, frequency = penalties.get("presence_penalty", 0), penalties.get("frequency_penalty", 0)
    answer = complete(smollm, prompt, temperature=0, max_tokens=24, logprobs=20, **penalties)
    counts = {}
    for i, (token, logprob, best) in enumerate(positions(answer)):
        def left(name, value):
            return value - presence * (name in counts) - frequency * counts.get(name, 0)
        mine = left(token, logprob)
        for other, value in best.items():
            assert mine >= left(other, value) - 1e-3, (
                f"position {i}: {token!r} has {mine}, {other!r} has {left(other, value)}; before: {counts}")
        counts[token] = counts.get(token, 0) + 1
    return text(answer)


def test_presence_penalty(smollm):
    assert penalized_greedy(smollm, PROMPT, presence_penalty=2) != penalized_greedy(smollm, PROMPT)


def test_frequency_penalty(smollm):
    assert penalized_greedy(smollm, frequency_penalty=1.2) != penalized_greedy(smollm)


def test_both_penalties(smollm):
    assert penalized_greedy(smollm, presence_penalty=0.7, frequency_penalty=0.9) != penalized_greedy(smollm)


def test_negative_penalty_rewards(smollm):
    plain, repeated = penalized_greedy(smollm), penalized_greedy(smollm, presence_penalty=-2, frequency_penalty=-2)
    assert len(set(repeated.split())) <= len(set(plain.split()))


def test_presence_penalty_ignores_the_prompt(smollm):
    """Only generated tokens are penalized: the first one cannot change."""
    first = {ids(complete(smollm, REPETITIVE, temperature=0, presence_penalty=p, frequency_penalty=p, **OUTPUT))[0]
             for p in (0, 2)}
    assert len(first) == 1


@REAL_WORDS
def test_repetition_penalty_counts_the_prompt(smollm):
    plain = complete(smollm, REPETITIVE, temperature=0, **OUTPUT)
    assert text(plain).startswith(" la Femme"), f"the model is expected to go on, but says {text(plain)!r}"
    assert not text(complete(smollm, REPETITIVE, temperature=0, repetition_penalty=5, **OUTPUT)).startswith(" la")
    answer = complete(smollm, REPETITIVE, temperature=0, repetition_penalty=10, ignore_eos=True, max_tokens=24,
                      return_token_ids=True)
    assert len(set(ids(answer))) >= 20, f"so high a penalty lets hardly a token return: {text(answer)!r}"


DRY_PROMPT = "one two three four five six seven. one two three four five six seven. one two three"


def dry(smollm, **fields):
    return text(complete(smollm, DRY_PROMPT, temperature=0, max_tokens=4, **fields))


@REAL_WORDS
def test_dry_breaks_a_repetition(smollm):
    assert dry(smollm).startswith(" four")
    assert not dry(smollm, dry_multiplier=5, dry_base=2, dry_allowed_length=1).startswith(" four")


@pytest.mark.parametrize("fields", [{"dry_multiplier": 0}, {"dry_allowed_length": 20}, {"dry_penalty_last_n": 0},
                                    {"dry_penalty_last_n": 5}],
                         ids=lambda f: "-".join(f"{k}={v}" for k, v in f.items()))
def test_dry_is_off(smollm, fields):
    """No multiplier; a repetition shorter than what is allowed; nothing to look back at; too little of it to find the
    first occurrence."""
    assert dry(smollm, **{"dry_multiplier": 5, "dry_base": 2, "dry_allowed_length": 1, **fields}) == dry(smollm)


@REAL_WORDS
def test_dry_breaker_ends_a_repetition(smollm):
    """What stands before a breaker counts as no repetition: the token right behind it is free."""
    fields = {"dry_multiplier": 5, "dry_base": 2, "dry_allowed_length": 1}
    assert dry(smollm, dry_sequence_breakers=[" three"], **fields).startswith(" four")
    assert not dry(smollm, dry_sequence_breakers=[" seven"], **fields).startswith(" four")


@REAL_WORDS
def test_dry_base_grows(smollm):
    """A base of 1 does not grow with the length of the repetition; a small multiplier is then too weak."""
    weak = {"dry_multiplier": 0.05, "dry_allowed_length": 1}
    assert dry(smollm, dry_base=1, **weak).startswith(" four")
    assert not dry(smollm, dry_base=16, **weak).startswith(" four")


# ---- bias and stops by id ----

def test_logit_bias_forces_and_bans(smollm, greedy):
    forced = smollm.tokens(" banana")
    assert len(forced) == 1
    answer = complete(smollm, PROMPT, logit_bias={str(forced[0]): 100}, max_tokens=3, temperature=0)
    assert text(answer) == " banana banana banana"
    first = ids(greedy)[0]
    banned = complete(smollm, PROMPT, temperature=0, logit_bias={str(first): -100}, **OUTPUT)
    assert first not in ids(banned)


def test_logit_bias_of_many_tokens(tiny):
    """Bans all but eight of 1,000 tokens that are favoured."""
    favoured = {str(i): 50 for i in range(1000, 2000)}
    favoured.update({str(i): -100 for i in range(1008, 2000)})
    answer = complete(tiny, PROMPT, logit_bias=favoured, max_tokens=20, seed=1, return_token_ids=True)
    assert set(ids(answer)) <= set(range(1000, 1008))
    assert len(set(ids(answer))) > 2


def end_of_text(server):
    return server.tokens("<|im_end|>")[0]


def test_min_tokens_holds_back_the_end(smollm):
    bias = {str(end_of_text(smollm)): 50}
    at_once = complete(smollm, PROMPT, logit_bias=bias, max_tokens=9)
    assert finish(at_once) == "stop" and text(at_once) == ""
    later = complete(smollm, PROMPT, logit_bias=bias, max_tokens=9, min_tokens=5, return_token_ids=True)
    assert finish(later) == "stop"
    assert later["usage"]["completion_tokens"] == 6, "five tokens, then the end"
    assert end_of_text(smollm) not in ids(later)[:5]


def test_min_tokens_holds_back_stops(smollm, greedy):
    """Neither a stop id nor a stop string ends an answer before."""
    fourth = ids(greedy)[3]
    stopped = complete(smollm, PROMPT, temperature=0, stop_token_ids=[fourth], **OUTPUT)
    assert finish(stopped) == "stop" and len(ids(stopped)) <= 4
    held = complete(smollm, PROMPT, temperature=0, stop_token_ids=[fourth], min_tokens=8, **OUTPUT)
    assert fourth not in ids(held)[:8]
    stop = text(greedy)[:3]
    assert text(complete(smollm, PROMPT, temperature=0, stop=stop, **OUTPUT)) == ""
    assert text(complete(smollm, PROMPT, temperature=0, stop=stop, min_tokens=4, **OUTPUT)).startswith(stop)


def test_ignore_eos_goes_on(smollm):
    answer = complete(smollm, PROMPT, logit_bias={str(end_of_text(smollm)): 50}, ignore_eos=True, max_tokens=7)
    assert finish(answer) == "length"
    assert answer["usage"]["completion_tokens"] == 7


def test_skip_special_tokens(smollm):
    fields = {"logit_bias": {str(end_of_text(smollm)): 50}, "ignore_eos": True, "max_tokens": 2}
    assert text(complete(smollm, PROMPT, **fields)) == ""
    assert text(complete(smollm, PROMPT, skip_special_tokens=False, **fields)) == "<|im_end|><|im_end|>"


def test_stop_token_ids(smollm, greedy):
    stop = ids(greedy)[4]
    cut = ids(greedy).index(stop)
    answer = complete(smollm, PROMPT, temperature=0, stop_token_ids=[stop, 0], **OUTPUT)
    assert finish(answer) == "stop"
    assert answer["choices"][0]["stop_reason"] == stop
    kept = complete(smollm, PROMPT, temperature=0, max_tokens=cut, return_token_ids=True) if cut else None
    assert text(answer) == (text(kept) if kept else "")
    shown = complete(smollm, PROMPT, temperature=0, stop_token_ids=[stop], include_stop_str_in_output=True, **OUTPUT)
    assert ids(shown) == ids(greedy)[:cut + 1]


# ---- choices ----

def test_n_gives_independent_choices(smollm):
    answer = complete(smollm, PROMPT, n=3, seed=21, **OUTPUT)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len(set(texts(answer))) == 3
    assert answer["usage"]["completion_tokens"] == sum(len(ids(answer, i)) for i in range(3))
    assert texts(complete(smollm, PROMPT, n=3, seed=21, **OUTPUT)) == texts(answer)
    assert text(complete(smollm, PROMPT, n=1, seed=21, **OUTPUT)) == text(answer), "choice 0 does not depend on n"


def test_best_of_gives_the_likeliest(smollm):
    every = complete(smollm, PROMPT, n=4, seed=22, logprobs=0, **OUTPUT)
    best = complete(smollm, PROMPT, best_of=4, n=2, seed=22, **OUTPUT)

    def score(i):
        values = every["choices"][i]["logprobs"]["token_logprobs"]
        return sum(values) / len(values)
    order = sorted(range(4), key=score, reverse=True)
    assert texts(best) == [text(every, i) for i in order[:2]]
    assert best["usage"]["completion_tokens"] == every["usage"]["completion_tokens"], "all four were generated"
