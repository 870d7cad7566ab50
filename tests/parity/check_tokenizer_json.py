#!/usr/bin/env python3
"""Compares tokenizers read from tokenizer.json with the `tokenizers` package, live: ids and decoded text over a megabyte of
many languages and code, and over nasty strings. Small vocabularies of each kind are trained here; folders named on the
command line are compared too.

Usage: check_tokenizer_json.py [--build FOLDER] [--random N] [FOLDER...]
Exit status 1 on any difference, 77 when a package is missing."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "parity"))
try:
    import tokenizer_oracle as oracle
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError as missing:
    print(f"skip: {missing} (pip install tokenizers)")
    sys.exit(77)

SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>"]
FLAGGED = {"<mask>": ["lstrip"], "<|end|>": ["rstrip"], "<both>": ["lstrip", "rstrip"], "glue": ["single_word"],
           "\u00e9t\u00e9": ["single_word", "lstrip"]}
# GPT-4's pattern as tiktoken had it, and as some families write it into their tokenizer.json
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
MEGABYTE = 1_000_000
failures = 0


def with_specials(tok, frame=None):
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tok.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    for name, flags in FLAGGED.items():
        tok.add_special_tokens([AddedToken(name, special=True, normalized=False, **{flag: True for flag in flags})])
    if frame:
        tok.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=[(t, tok.token_to_id(t)) for t in SPECIAL])
    return tok


def trained(tok, trainer):
    tok.train_from_iterator(oracle.corpus(), trainer)
    return tok


def byte_level(pre, nfc, ignore_merges):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tok.normalizer = normalizers.NFC() if nfc else None
    tok.pre_tokenizer, tok.decoder = pre, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    return with_specials(trained(tok, trainer), "<s> $A" if ignore_merges else None)


def byte_pieces():
    return [f"<0x{b:02X}>" for b in range(256)]


def prefixed(scheme):
    """How the space before a text comes: Llama 2's normalizer, or Metaspace with a scheme."""
    steps = [normalizers.Replace(" ", "\u2581")]
    if scheme == "prepend":
        return normalizers.Sequence([normalizers.Prepend("\u2581"), *steps]), None
    if scheme == "replace":
        return steps[0], None
    return None, pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)


def sentencepiece_bpe(scheme):
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer, tok.pre_tokenizer = prefixed(scheme)
    trainer = trainers.BpeTrainer(vocab_size=2200, special_tokens=SPECIAL[:3] + byte_pieces(), show_progress=False, max_token_length=16)
    trained(tok, trainer)
    data = json.loads(tok.to_str())  # the bytes are pieces of the model, not added tokens
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    tok = Tokenizer.from_str(json.dumps(data))
    strip = [decoders.Strip(" ", 1, 0)] if scheme not in ("replace", "never") else []
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return with_specials(tok, "<s> $A")


def unigram():
    tok = Tokenizer(models.Unigram())
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=SPECIAL[:3], unk_token="<unk>", show_progress=False)
    return with_specials(trained(tok, trainer), "$A </s>")


def wordpiece(lowercase):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained(tok, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=names, show_progress=False))
    tok.post_processor = processors.BertProcessing(("[SEP]", tok.token_to_id("[SEP]")), ("[CLS]", tok.token_to_id("[CLS]")))
    return tok


def kinds():
    for name, (pre, nfc, ignore_merges) in oracle.PRE_TOKENIZERS.items():
        if name != "deepseek-llm":  # its letters are an old list that only this family writes
            yield f"bytes {name}", byte_level(pre, nfc, ignore_merges)
    for digits in (r"\p{N}{1,3}", r"\p{N}"):
        split = pre_tokenizers.Split(Regex(CL100K.replace("DIGITS", digits)), "isolated")
        byte_steps = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        yield f"bytes cl100k {digits}", byte_level(byte_steps, False, False)
    for scheme in ("prepend", "replace", "always", "first", "never"):
        yield f"sentencepiece {scheme}", sentencepiece_bpe(scheme)
    yield "unigram", unigram()
    yield "wordpiece", wordpiece(False)
    yield "wordpiece lowercase", wordpiece(True)


def texts(n_random):
    rng = random.Random(11)
    lines = list(oracle.SAMPLES) + list(oracle.random_strings(rng, n_random)) + list(oracle.whitespace_runs(rng, n_random // 8))
    lines += list(oracle.emoji_sequences(rng, n_random // 8))
    special = [*SPECIAL, *FLAGGED, "<tool_call>", "[CLS]", "[MASK]", " ", "  ", "a", "\n", "\u00e9", "\u3000", "_", "."]
    lines += ["".join(rng.choice(special) for _ in range(9)) for _ in range(n_random)]
    sources = (ROOT / "tools" / "parity" / "text.txt").read_text().split("\n")
    sources += [p.read_text() for folder in ("base", "text", "docs", "tests/e2e") for p in sorted((ROOT / folder).glob("*.*")) if p.suffix in (".c", ".md", ".py") and p.name != "unicode_table.c"]
    lines += [s for s in sources if s]
    while sum(len(t.encode()) for t in lines) < MEGABYTE:
        lines.append(" ".join(rng.choice(oracle.SAMPLES) for _ in range(40)))
    return lines


def known_to_bert(text):
    """BertNormalizer's categories are those of an old Unicode: no marks, controls and punctuation that came later."""
    return all(unicodedata.category(c) not in ("Mn", "Cf") and unicodedata.category(c)[0] != "P"
               or unicodedata.ucd_3_2_0.category(c) != "Cn" for c in text)


def probe(args, folder, lines, *flags):
    done = subprocess.run([args.build / "tokenize_probe", folder, "--parse-special", "--decode", *flags],
                          input=b"".join(t.encode() + b"\0" for t in lines), capture_output=True)
    if done.returncode:
        return done.stderr.decode().strip()
    return [line.split("|") for line in done.stdout.decode().split("\n")[:-1]]


def compare(args, name, folder, tok, lines):
    global failures
    if name.startswith("wordpiece"):
        lines = [t for t in lines if known_to_bert(t)]
    wrong = ties = 0
    for special in (False, True):
        got = probe(args, folder, lines, *(["--add-special"] if special else []))
        if isinstance(got, str):
            print(f"{name}: {got}")
            failures += 1
            return
        want = tok.encode_batch(lines, add_special_tokens=special)
        for text, encoding, (ids, decoded) in zip(lines, want, got, strict=True):
            ids = [int(i) for i in ids.split()]
            same = ids == encoding.ids and bytes.fromhex(decoded).decode() == tok.decode(encoding.ids, skip_special_tokens=True)
            if not same and name == "unigram" and sorted(ids) == sorted(encoding.ids):
                ties += 1  # the same pieces in another order have the same sum, but for its rounding
                continue
            wrong += not same
            if not same and wrong <= 3:
                print(f"{name}: {text[:200]!r}\n  want {encoding.ids[:60]} {tok.decode(encoding.ids)[:80]!r}\n  got  {ids[:60]} {bytes.fromhex(decoded).decode()[:80]!r}")
    print(f"{name:<28} {len(lines):6} texts, {wrong} differ" + (f" ({ties} ties)" if ties else ""), flush=True)
    failures += wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--random", type=int, default=1500)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    args.build = args.build.resolve()
    lines = texts(args.random)
    for folder in args.folders:
        compare(args, folder.name, folder, Tokenizer.from_file(str(folder / "tokenizer.json")), lines)
    with tempfile.TemporaryDirectory() as scratch:
        for name, tok in kinds():
            folder = pathlib.Path(scratch) / name.replace(" ", "_").replace("\\", "")
            folder.mkdir()
            (folder / "config.json").write_text('{"model_type": "llama"}')
            tok.save(str(folder / "tokenizer.json"))
            # a folder wants some tensors to be one
            (folder / "model.safetensors").write_bytes((64).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(64) + bytes(4))
            compare(args, name, folder, tok, lines)
    print(f"{failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
