#!/usr/bin/env python3
"""Writes tests/data/tokenizer/*.vec: token ids as the `tokenizers` and `sentencepiece` packages give them.

    tokenizer_vectors.py [--out FOLDER] [--models FOLDER] [--check]

Two files use the vocabulary of a real model (file NAME; needs the model here and in the test); the others hold a small
vocabulary trained with the family's pre-tokenizer. See tests/support/vocab_file.h for the lines of a vocabulary; cases:

    plain HEX IDS     text, its ids when control tokens are plain text; ids joined by commas, "-" for none
    special HEX IDS   the same when they are parsed
    decode HEX IDS    ids and the text they give

With --check nothing is written and the exit status says whether the files are up to date.
"""
import argparse
import importlib.metadata
import os
import pathlib
import random
import sys

import tokenizer_oracle as oracle

ROOT = pathlib.Path(__file__).resolve().parents[2]
REAL = {"smollm2.vec": "smollm2-135m-instruct-q4_1.gguf", "qwen2.5.vec": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"}
VOCAB_SIZE = 600


def case(kind, text, ids):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    return "%s %s %s" % (kind, data.hex() or "-", ",".join(map(str, ids)) or "-")


def case_texts(name, n_random):
    rng = random.Random(name)
    texts = list(oracle.SAMPLES) + list(oracle.whitespace_runs(rng, 10)) + list(oracle.emoji_sequences(rng, 10))
    return [t for t in texts + list(oracle.random_strings(rng, n_random)) if t and "\0" not in t]


def byte_level_cases(name, pre, tokens, types, merges, n_random, n_special):
    reference = oracle.ByteLevelOracle(pre, tokens, types, merges)
    texts = case_texts(name, n_random)
    ids = reference.encode(texts, False)
    lines = [case("plain", t, i) for t, i in zip(texts, ids)]
    rng = random.Random(name + " special")
    special = list(oracle.special_texts(rng, tokens, types, n_special))
    special = special[: 2 * n_special] + special[-n_special:]
    lines += [case("plain", t, i) for t, i in zip(special, reference.encode(special, False))]
    lines += [case("special", t, i) for t, i in zip(special, reference.encode(special, True))]
    some = [i for i in ids if len(i) > 3]
    broken = [i[k:] + j[:k] for k, (i, j) in enumerate(zip(some[20:40], some[30:50]))]  # characters cut in two
    return lines + [case("decode", reference.decode(i), i) for i in broken]


def byte_level_family(pre):
    tokens, types, merges = oracle.train_byte_level(pre, VOCAB_SIZE, oracle.corpus())
    at = {t: i for i, t in enumerate(tokens)}
    lines = ["model gpt2", "pre " + pre]
    lines += ["token %d %s" % (k, t.encode("utf-8").hex()) for t, k in zip(tokens, types)]
    lines += ["merge %d %d" % tuple(at[p] for p in m.split(" ", 1)) for m in merges]
    return lines + byte_level_cases(pre, pre, tokens, types, merges, 30, 4)


def real_model(name, path):
    pre, tokens, types, merges = oracle.read_gguf_vocab(path)
    return ["file " + os.path.basename(path)] + byte_level_cases(name, pre, tokens, types, merges, 100, 24)


RULES = [("\ufb01", "fi"), ("\u00bd", "1/2"), ("\u3000", " "), ("\t", " "), ("e\u0301", "\u00e9"), ("\u2026", "..."), ("\u200b", " ")]


def sentencepiece_family(name, model_type, options, rules=None):
    prefix, extra = options.get("add_dummy_prefix", True), options.get("remove_extra_whitespaces", True)
    sp = oracle.SentencePieceOracle(model_type, 640, oracle.corpus(), rules, character_coverage=0.98, **options)
    lines = ["model " + ("llama" if model_type == "bpe" else "t5")]
    lines += ["flag add_space_prefix %d" % prefix, "flag remove_extra_whitespaces %d" % extra]
    lines += ["token %d %s %r" % (k, t.encode("utf-8").hex(), s) for t, k, s in zip(sp.tokens, sp.types, sp.scores)]
    if rules is not None:
        lines.append("charsmap " + sp.charsmap().hex())
    texts = case_texts(name, 40)
    ids = sp.encode(texts, False)
    lines += [case("plain", t, i) for t, i in zip(texts, ids)]
    if model_type == "bpe" and options.get("byte_fallback"):
        lines += [case("decode", sp.sp.decode(i), i) for i in ids]
    return lines


def all_files(models):
    for name, file in REAL.items():
        path = models / file
        if path.exists():
            yield name, real_model(name, str(path))
        else:
            print("skip: no %s" % path)
    for pre in oracle.PRE_TOKENIZERS:
        yield pre + ".vec", byte_level_family(pre)
    plain = dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
    yield "spm.vec", sentencepiece_family("spm", "bpe", dict(byte_fallback=True, **plain))
    yield "spm-gemma.vec", sentencepiece_family(
        "spm-gemma", "bpe", dict(byte_fallback=True, add_dummy_prefix=False, split_by_whitespace=False, **plain)
    )
    yield "spm-no-bytes.vec", sentencepiece_family("spm-no-bytes", "bpe", plain)
    yield "unigram.vec", sentencepiece_family("unigram", "unigram", plain)
    yield "unigram-charsmap.vec", sentencepiece_family("unigram-charsmap", "unigram", {}, RULES)


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tandem" / "models"
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "data" / "tokenizer")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(os.environ.get("TANDEM_MODELS") or cache))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    versions = " ".join("%s %s" % (p, importlib.metadata.version(p)) for p in ("tokenizers", "sentencepiece"))
    stale = []
    for name, lines in all_files(arguments.models):
        text = "\n".join(["# tools/parity/tokenizer_vectors.py; " + versions] + lines) + "\n"
        path = arguments.out / name
        if arguments.check:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        print("stale: " + " ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
