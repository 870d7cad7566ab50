#!/usr/bin/env python3
"""Compares the tokenizers of text/ with the `tokenizers` and `sentencepiece` packages, live, over generated texts.

Usage: check_tokenizers.py [--build FOLDER] [--random N] [--only NAME] [--no-models]
The probe is tests/tools/tokenize_probe.c in the build folder. The real models come from $TANDEM_MODELS, by
default the tandem/models folder of the cache; a missing one is skipped. Exit status 1 on any difference, 77 when a
package is missing."""
import argparse
import os
import random
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "parity"))
try:
    import tokenizer_oracle as oracle
except ImportError as missing:
    print("skip: %s (pip install tokenizers gguf)" % missing)
    sys.exit(77)

MODELS = ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
failures = 0


def probe(args, path, texts, *flags):
    out = subprocess.run(
        [args.probe, path, *flags], input=b"".join(t.encode("utf-8") + b"\0" for t in texts), stdout=subprocess.PIPE, check=True
    ).stdout.decode().split("\n")
    assert len(out) == len(texts) + 1, (len(out), len(texts))
    return out[:-1]


def compare(name, texts, expected, lines):
    global failures
    wrong = 0
    for text, want, line in zip(texts, expected, lines):
        got = [int(i) for i in line.split("|")[0].split()]
        if got != want:
            wrong += 1
            if wrong <= 5:
                print("%s: %r\n  want %s\n  got  %s" % (name, text, want, got))
    print("%-28s %6d texts, %d differ" % (name, len(texts), wrong))
    failures += wrong


def compare_decoded(name, texts, expected, lines):
    global failures
    wrong = 0
    for text, want, line in zip(texts, expected, lines):
        got = bytes.fromhex(line.split("|")[1]).decode("utf-8")
        if got != want:
            wrong += 1
            if wrong <= 5:
                print("%s: %r\n  want %r\n  got  %r" % (name, text, want, got))
    print("%-28s %6d texts, %d decode differently" % (name, len(texts), wrong))
    failures += wrong


def texts_for(rng, args):
    texts = list(oracle.SAMPLES)
    texts += oracle.whitespace_runs(rng, 2000)
    texts += oracle.emoji_sequences(rng, 2000)
    texts += oracle.random_strings(rng, args.random)
    return [t for t in texts if t and "\0" not in t]


def check_byte_level(args, name, path, pre, tokens, types, merges):
    rng = random.Random(name)
    reference = oracle.ByteLevelOracle(pre, tokens, types, merges)
    texts = texts_for(rng, args)
    lines = probe(args, path, texts, "--decode")
    ids = reference.encode(texts, False)
    compare(name, texts, ids, lines)
    compare_decoded(name + " decode", texts, [reference.decode(i) for i in ids], lines)
    special = list(oracle.special_texts(rng, tokens, types, 400))
    for flag in (False, True):
        lines = probe(args, path, special, *(["--parse-special"] if flag else []))
        compare("%s special=%d" % (name, flag), special, reference.encode(special, flag), lines)


def check_model(args, folder, file):
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        print("skip: no %s; `make models` brings it" % file)
        return
    pre, tokens, types, merges = oracle.read_gguf_vocab(path)
    check_byte_level(args, file.split("-")[0] + " (" + pre + ")", path, pre, tokens, types, merges)


def check_family(args, scratch, pre):
    tokens, types, merges = oracle.train_byte_level(pre, 1200, oracle.corpus())
    path = os.path.join(scratch, pre + ".gguf")
    oracle.write_gguf(path, "gpt2", tokens, types, merges=merges, pre=pre)
    check_byte_level(args, pre, path, pre, tokens, types, merges)


def check_sentencepiece(args, scratch):
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        print("skip: sentencepiece is not installed")
        return
    plain = dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
    kinds = [
        ("spm bpe", "bpe", dict(byte_fallback=True, **plain)),
        ("spm bpe, no byte tokens", "bpe", dict(**plain)),
        ("spm bpe, no space prefix", "bpe", dict(byte_fallback=True, add_dummy_prefix=False, **plain)),
        ("spm bpe, across words", "bpe", dict(byte_fallback=True, split_by_whitespace=False, **plain)),
        ("unigram", "unigram", dict(**plain)),
        ("unigram, across words", "unigram", dict(split_by_whitespace=False, **plain)),
        ("unigram nmt_nfkc", "unigram", dict()),
    ]
    for name, model_type, options in kinds:
        sp = oracle.SentencePieceOracle(model_type, 700, oracle.corpus(), character_coverage=0.98, **options)
        path = os.path.join(scratch, "spm.gguf")
        oracle.write_gguf(
            path, "llama" if model_type == "bpe" else "t5", sp.tokens, sp.types, scores=sp.scores,
            charsmap=sp.charsmap() if "nfkc" in name else None,
            add_space_prefix=options.get("add_dummy_prefix", True),
            remove_extra_whitespaces=options.get("remove_extra_whitespaces", True),
        )
        texts = texts_for(random.Random(name), args)
        compare(name, texts, sp.encode(texts, False), probe(args, path, texts))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="folder of tokenize_probe")
    parser.add_argument("--probe", help="path of the probe instead")
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--only", help="run the checks whose name contains this")
    parser.add_argument("--no-models", action="store_true")
    args = parser.parse_args()
    args.probe = args.probe or os.path.join(args.build, "tokenize_probe")
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tandem", "models")
    folder = os.environ.get("TANDEM_MODELS") or cache
    start = time.time()
    wanted = lambda name: not args.only or args.only in name
    for file in MODELS:
        if not args.no_models and wanted(file):
            check_model(args, folder, file)
    small = argparse.Namespace(probe=args.probe, random=max(args.random // 8, 100))
    with tempfile.TemporaryDirectory() as scratch:
        for pre in oracle.PRE_TOKENIZERS:
            if wanted(pre):
                check_family(small, scratch, pre)
        if wanted("sentencepiece"):
            check_sentencepiece(small, scratch)
    print("%d differences, %.1f s" % (failures, time.time() - start))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
