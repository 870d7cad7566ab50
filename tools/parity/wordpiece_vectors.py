#!/usr/bin/env python3
"""Writes tests/data/wordpiece.vec: WordPiece's ids and texts as the `tokenizers` package gives them.

    wordpiece_vectors.py [--out FILE] [--check]

Lines, bytes in hex, ids joined by commas, "-" for nothing:

    vocab PREFIX                  begins a vocabulary: the prefix of pieces that go on a word
    token TYPE HEX                in order of ids; TYPE as in GGUF
    options LOWERCASE STRIP_ACCENTS CLEAN_TEXT CHINESE_CHARS MAX_CHARS    a tokenizer; the lines that follow are its
    plain HEX IDS                 text, its ids when control tokens are plain text
    special HEX IDS               the same when they are parsed
    framed HEX IDS                the same with [CLS] and [SEP] around them
    decode HEX IDS                ids and their text
    skip HEX IDS                  the same without control tokens

With --check nothing is written and the exit status says whether the file is up to date.
"""
import argparse
import collections
import importlib.metadata
import pathlib
import random
import sys
import unicodedata

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import tokenizer_oracle as oracle

ROOT = pathlib.Path(__file__).resolve().parents[2]
NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ADDED = ["<tool>", "it do not . stop", "##glue"]  # clean-up reaches into a token; a token that begins like a piece
BERT = pre_tokenizers.BertPreTokenizer()
OPTIONS = [(1, 1, 1, 1, 100), (0, 0, 1, 1, 100), (1, 0, 1, 0, 100), (0, 1, 0, 1, 7), (0, 0, 0, 0, 100)]
NASTY = [
    "", " ", "\u0301", "\u00e9\u0301\u0315\u0334", "a\u0300\u0316b", "\u0130stanbul I\u0307", "\u039f\u03a3 \u03c3\u03c2 \u03a3", "\u1e9e\u00df",
    "\u01c5\u01f2 \u2126\u212a\u212b", "\uac01\uac00\u11a8 \u1100\u1161\u11a8", "\u302e\u1b44\u302a", "\U0001d15e\U0001d15f\u0315", "\u0b94\u0bca\u0bcb",
    "\u00a0\u2003\u2028\u2029\u202f\u3000\u0085x\u200b\u180e\ufeffy", "a\x00b\x01c\x7fd\ufffde\x85f\tg\rh\x0bi", "\ue000x\U000f0000", "soft\u00adhyphen",
    "\u0890\u08e2\U000110cd\U00013430", "\u0898a\u07fd\u1ac1b\u1734\U00011938", "\u4e2d\u6587x\u3400\uf900\U0002f800\U00030000\u3042", "\u2e80\u3007\u3021",
    "$+<=>^`|~ a$b\u20ac\u00a2", "x\u00b7y\u2014z\u061f\u3002\u2e43\u2e4a\U00010fff", "\U00016ea0\u1c89\ua7cb\ua7dc\U00010d50\u023a\u10a0\u13a0", "\ufb01\ufb00\u00bd\u2460",
    "\U0001f468\u200d\U0001f469\U0001f3fd", "a" * 100, "a" * 101, "\u00e9" * 100, "e\u0301" * 100, "\u00e9" * 51, "abcdefg", "abcdefgh", "##a ## a##b #", "[CLS][MASK] x[SEP]",
    "<tool>a<tool> b", "i##glue it do not . stop", "don't they've we're I'm it's . , ! ?", "[UNK]", "[ CLS ]", "unaffable unwanted runningest", "\u0e01\u0e33\u0e49\u0e38\u0e34", "\u0915\u094d\u0937\u093f",
]


def make(vocab, prefix, options):
    lowercase, strip, clean, chinese, max_chars = options
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=max_chars, continuing_subword_prefix=prefix))
    tok.normalizer = normalizers.BertNormalizer(
        clean_text=bool(clean), handle_chinese_chars=bool(chinese), strip_accents=bool(strip), lowercase=bool(lowercase)
    )
    tok.pre_tokenizer = BERT
    tok.decoder = decoders.WordPiece(prefix=prefix, cleanup=True)
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIAL])
    tok.add_tokens([AddedToken(s, normalized=False) for s in ADDED])
    tok.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return tok


def learn(n_words, n_inner, n_letters):
    """The most frequent words, ends of words and letters of the corpus: the same at each run, as the trainer's are not."""
    words, inner, letters = collections.Counter(), collections.Counter(), collections.Counter()
    plain = normalizers.BertNormalizer()
    for text in oracle.corpus():
        for word, _ in [*BERT.pre_tokenize_str(text), *BERT.pre_tokenize_str(plain.normalize_str(text))]:
            words[word] += len(word) < 12
            letters.update(word)
            inner.update("##" + word[k:] for k in range(1, len(word)) if len(word) - k < 5)
    pieces = SPECIAL + list("abcdefgh\u03c3\u03c2\u00e9e\u0301\u0307i\u1e9e")
    for counter, n in ((letters, n_letters), (words, n_words), (inner, n_inner)):
        pieces += sorted(counter, key=lambda p: (-counter[p], p))[:n]
    pieces += ["##" + p for p in pieces if len(p) == 1]
    return {p: i for i, p in enumerate(dict.fromkeys(pieces))}


def texts(seed, n):
    rng = random.Random(seed)
    marks = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    letters = [*"abcdeh\u00e9\u00e0\u03c3\u0439\uac01\u4e2d \u0130", *(chr(0xC0 + i) for i in range(64))]
    found = NASTY + (oracle.SAMPLES + list(oracle.random_strings(rng, n)) + list(oracle.whitespace_runs(rng, 4)) if n else [])
    for _ in range(n):
        found.append("".join(rng.choice(letters if rng.random() < 0.6 else marks) for _ in range(rng.randrange(2, 12))))
    return [t for t in found if len(t.encode()) <= (90 if n else 34) or n and t in NASTY]


def line(kind, text, ids):
    return "%s %s %s" % (kind, text.encode().hex() or "-", ",".join(map(str, ids)) or "-")


def tokenizer_lines(tok, options, n):
    yield "options %d %d %d %d %d" % options
    found = texts(str(options), n)
    rng = random.Random(str(options))
    known = []
    for mode, special, framed in (("plain", False, False), ("special", True, False), ("framed", True, True)):
        tok.encode_special_tokens = not special
        for text in found if mode == "plain" else [t for t in found if "[" in t or "<" in t]:
            ids = tok.encode(text, add_special_tokens=framed).ids
            known.append(ids)
            yield line(mode, text, ids)
    known = [ids for ids in known if ids]
    inner = sorted(i for p, i in tok.get_vocab().items() if p.startswith("##"))
    known = known[::10]
    known += [[tok.token_to_id(t), *rng.sample(inner, 2), tok.token_to_id(u)] for t in ADDED for u in ADDED]
    known += [[rng.choice(inner), rng.choice(inner)], [99999, inner[0], 4, 99999, inner[1]]]
    for k in range(len(known)):
        yield line("decode", tok.decode(known[k], skip_special_tokens=False), known[k])
        yield line("skip", tok.decode(known[k], skip_special_tokens=True), known[k])


def vocabulary_lines(vocab, prefix, all_options, n):
    yield "vocab " + (prefix or "-")
    first = make(vocab, prefix, all_options[0])
    for i in range(first.get_vocab_size()):
        piece = first.id_to_token(i)
        kind = UNKNOWN if piece == "[UNK]" else CONTROL if piece in SPECIAL else USER if piece in ADDED else NORMAL
        yield "token %d %s" % (kind, piece.encode().hex())
    for k, options in enumerate(all_options):
        yield from tokenizer_lines(make(vocab, prefix, options), options, n if k < 2 else 0)


def all_lines():
    yield "# tools/parity/wordpiece_vectors.py; tokenizers " + importlib.metadata.version("tokenizers")
    yield from vocabulary_lines(learn(130, 120, 90), "##", OPTIONS, 5)
    for prefix in ("", "@x"):
        pieces = SPECIAL + ["a", "b", "ab", "##a", prefix + "##", "@xa", "@xab", "@x", "#", ".", "it", "n't", "don", "'m"]
        vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
        yield from vocabulary_lines(vocab, prefix, [(1, 1, 1, 1, 100)], 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "data" / "wordpiece.vec")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = "\n".join(all_lines()) + "\n"
    if arguments.check:
        return 0 if arguments.out.exists() and arguments.out.read_text() == text else 1
    arguments.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
