"""Reference tokenizers for the parity of text/: the pre-tokenizers of the families as their tokenizer.json has them,
tokenizers built from a GGUF file's own vocabulary, small trained ones, and the texts that all are compared on."""
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    "\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)


def _split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def _sequence(*parts, use_regex=False):
    return pre_tokenizers.Sequence(list(parts) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)])


def _cl100k(digits, contractions=CONTRACTIONS + "|", letters=r"\p{L}", tail=r"[\r\n]*"):
    other = r"\p{L}\p{N}" if letters == r"\p{L}" else r"\p{L}\p{M}\p{N}"
    return _split(
        contractions + r"[^\r\n\p{L}\p{N}]?" + letters + r"+|\p{N}" + digits + "| ?[^\\s" + other + "]+" + tail
        + r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


DIGITS = pre_tokenizers.Digits(individual_digits=True)
PRE_TOKENIZERS = {  # tokenizer.ggml.pre: (pre-tokenizer, NFC, ignore_merges)
    "gpt-2": (_sequence(use_regex=True), False, False),
    "smollm": (_sequence(DIGITS, use_regex=True), False, False),
    "llama-bpe": (_sequence(_cl100k("{1,3}")), False, True),
    "qwen2": (_sequence(_cl100k("")), True, False),
    "qwen35": (_sequence(_cl100k("", letters=r"[\p{L}\p{M}]")), True, False),
    "seed-coder": (_sequence(_cl100k("{1}", tail="")), False, False),
    "minicpm5": (_sequence(_split(r"\p{N}{1,3}"), _cl100k("+")), False, True),
    "tekken": (_sequence(_split(CASED % ("", "", ""))), False, True),
    "gpt-4o": (_sequence(_split(CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?", "{1,3}"))), False, False),
    "deepseek-llm": (
        _sequence(
            _split("[\r\n]"),
            _split(DEEPSEEK_LETTERS),
            _split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            _split(r"\s+$"),
            _split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            DIGITS,
        ),
        False,
        False,
    ),
    "deepseek-coder": (
        _sequence(
            _split("[\r\n]"),
            _split(r"\s?\p{L}+"),
            _split(r"\s?\p{P}+"),
            _split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            DIGITS,
        ),
        False,
        False,
    ),
    "deepseek-v3": (
        _sequence(
            _split(r"\p{N}{1,3}"),
            _split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
            _split(
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ),
        False,
        False,
    ),
    "falcon": (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
                pre_tokenizers.Digits(individual_digits=False),
                _split("[0-9][0-9][0-9]"),
            ]
        ),
        False,
        False,
    ),
}


def byte_level_tokenizer(pre, tokens, types, merges):
    """A `tokenizers` object over a GGUF vocabulary. tokens, merges: as GGUF stores them."""
    pre_tokenizer, nfc, ignore_merges = PRE_TOKENIZERS[pre]
    vocab = {t: i for i, t in enumerate(tokens)}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ", 1)) for m in merges], ignore_merges=ignore_merges))
    if nfc:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    added = [AddedToken(t, normalized=False, special=k != USER_DEFINED) for t, k in zip(tokens, types) if k in (CONTROL, UNKNOWN, USER_DEFINED)]
    tok.add_special_tokens([a for a in added if a.special])
    tok.add_tokens([a for a in added if not a.special])
    assert tok.get_vocab_size() == len(tokens)
    return tok


class ByteLevelOracle:
    def __init__(self, pre, tokens, types, merges):
        self.plain = byte_level_tokenizer(pre, tokens, types, merges)
        self.plain.encode_special_tokens = True
        self.special = byte_level_tokenizer(pre, tokens, types, merges)

    def encode(self, texts, parse_special):
        tok = self.special if parse_special else self.plain
        return [e.ids for e in tok.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids):
        return self.special.decode(ids, skip_special_tokens=True)


def read_gguf_vocab(path):
    """(pre, tokens, types, merges) of a byte-level model file."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    return get("pre"), get("tokens"), get("token_type"), get("merges")


SPECIAL = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>"]
USER = ["<tool_call>", "</tool_call>", "<tool", "\u00e9\u00e8<>"]


def train_byte_level(pre, vocab_size, corpus):
    """A small vocabulary of the family: (tokens, types, merges)."""
    pre_tokenizer, nfc, _ = PRE_TOKENIZERS[pre]
    tok = Tokenizer(models.BPE())
    if nfc:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(corpus, trainer)
    import json

    model = json.loads(tok.to_str())["model"]
    tokens = [t for t, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1])]
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    types = [NORMAL] * len(tokens) + [CONTROL] * len(SPECIAL) + [USER_DEFINED] * len(USER)
    return tokens + SPECIAL + USER, types, merges


# ---- SentencePiece ----


class SentencePieceOracle:
    """A trained sentencepiece model and what GGUF stores of it. model_type: "bpe" or "unigram"."""

    def __init__(self, model_type, vocab_size, corpus, rules=None, **options):
        import io
        import tempfile
        import sentencepiece

        blob = io.BytesIO()
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as tsv:
            if rules is not None:
                for source, target in rules:
                    hexes = lambda s: " ".join("%X" % ord(c) for c in s)
                    tsv.write(hexes(source) + "\t" + hexes(target) + "\n")
                tsv.flush()
                options["normalization_rule_tsv"] = tsv.name
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(corpus), model_writer=blob, model_type=model_type, vocab_size=vocab_size,
                minloglevel=2, hard_vocab_limit=False, num_threads=1, **options
            )
        self.proto = blob.getvalue()
        self.sp = sp = sentencepiece.SentencePieceProcessor(model_proto=self.proto)
        n = range(sp.vocab_size())
        self.tokens = [sp.id_to_piece(i) for i in n]
        self.scores = [sp.get_score(i) for i in n]
        self.types = [
            CONTROL if sp.is_control(i) else UNKNOWN if sp.is_unknown(i) else BYTE if sp.is_byte(i) else UNUSED if sp.is_unused(i) else NORMAL
            for i in n
        ]

    def encode(self, texts, parse_special):
        return self.sp.encode(list(texts))

    def charsmap(self):
        return _proto_field(_proto_field(self.proto, 3), 2)


def _proto_field(blob, wanted):
    """The bytes of a length-delimited field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = blob[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(blob):
        key = varint()
        if key & 7 == 2:
            size = varint()
            if key >> 3 == wanted:
                return blob[at : at + size]
            at += size
        elif key & 7 == 0:
            varint()
        else:
            at += {1: 8, 5: 4}[key & 7]
    return b""


def write_gguf(path, model, tokens, types, merges=None, scores=None, pre=None, charsmap=None, **flags):
    import gguf

    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list([t.encode("utf-8") for t in tokens])
    w.add_token_types(types)
    if merges is not None:
        w.add_token_merges(merges)
    if scores is not None:
        w.add_token_scores(scores)
    if charsmap:
        w.add_precompiled_charsmap(charsmap)
    for key, value in flags.items():
        w.add_bool("tokenizer.ggml." + key, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


# ---- texts ----

SAMPLES = [
    "Hello world", " Hello, world! ", "hello  world   again    and     on", "I'm you're they've we'll he'd it's don't",
    "I'M YOU'RE THEY'VE WE'LL HE'D IT'S DON'T 'S 'T 'RE it'\u017f O'Reilly 'tis 'llama 'reef 'sam'the'move",
    "The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX! camelCaseWords andHTTPServer XMLHttpRequest2",
    "1 12 123 1234 12345 123456 1234567 3.14159 1,000,000.50 0x1F 1e-9 \u00bd \u00b2\u00b3 \u2167 \u0663\u0664\u0665 \u0967\u0968 \u3007 \U0001d7ce",
    "x=1;y=22;z=333\n\tif (a[i] != b->c) { return -1; } // done\n\n\n    for (;;)\n  \t  end\r\n\r\n",
    "def f(x: int) -> str:\n    \"\"\"Doc.\"\"\"\n    return f\"{x!r}\" + '\\n'\n\nclass A(B):\n    pass\n",
    "#include <stdio.h>\nint main(void)\n{\n\tprintf(\"%d\\n\", 42);\n\treturn 0;\n}\n",
    "SELECT * FROM t WHERE a >= 10 AND b LIKE '%x%';  -- comment\n<div class=\"a\">&nbsp;</div>\nhttps://example.org/a/b?c=d&e=f#g",
    "Gr\u00fc\u00dfe aus K\u00f6ln! \u00c7a va? \u00a1Hola, se\u00f1or! Tr\u1ea7n H\u01b0ng \u0110\u1ea1o \u0141\u00f3d\u017a \u01c5 \u01c8 \ufb01ne",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5 \u0531\u0532 \u10d0\u10d1\u10d2 \u13a0\u13a1",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u30fc\u3000\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1781\u17d2\u1798\u17c2\u179a \u0b95\u0bcb \u0ccb",
    "cafe\u0301 e\u0301\u0327 \u1e9b\u0323 \u212b \u2126 A\u030a \ufb01 \u0344 \u0958 q\u0307\u0323 \u1100\u1161\u11a8 \uac00\u11a8 \u0300\u0301abc \u0301ABC \u02b0AB\u02b0C",
    "\U0001f600\U0001f603\U0001f604 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd \U0001f3f3\ufe0f\u200d\U0001f308 1\ufe0f\u20e3 \u2764\ufe0f \U0001f9d1\U0001f3ff\u200d\U0001f680",
    "\u2581under\u2581score\u2581 \u200b\u200c\u200d\u2060\ufeff\u00ad\u0000\u0001\u007f\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000x".replace("\u0000", ""),
    "$100 + \u20ac50 = \u00a5? a<b>c ^ ~ | ` _ \u00ac\u00b1\u00d7\u00f7 \u2211\u222b\u221e \u2190\u2192 \u00a9\u00ae\u2122 \u201cquoted\u201d \u2018it\u2019s\u2019 \u2026 \u2014 !!! ??? ... --- === ***",
    "a", " ", "\n", "\t", "\r\n", "  ", "   ", "\n\n\n", " \n", "\n ", " \n \n ", "a ", " a", "a\n", "\na", "a \nb", "a\n b", "\u3000", "'", "''", "'s", ".", " .", ". ", "\u0301",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                                                                    x",
    "antidisestablishmentarianismantidisestablishmentarianismantidisestablishmentarianism",
]


def whitespace_runs(rng, n):
    spaces = "   \t\n\r\u000b\u000c\u0085\u00a0\u2003\u2028\u3000"
    for _ in range(n):
        yield "".join(
            rng.choice(["a", "B1", "", ".", "\u4e2d"]) + "".join(rng.choice(spaces) for _ in range(rng.randint(0, 9)))
            for _ in range(rng.randint(1, 5))
        )


def emoji_sequences(rng, n):
    parts = ["\U0001f468", "\U0001f469", "\U0001f467", "\u200d", "\ufe0f", "\U0001f3fb", "\U0001f3ff", "\U0001f1e6", "\U0001f1ff", "\u20e3", "1", " ", "a"]
    for _ in range(n):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(1, 14)))


def category_pools():
    pools = {}
    for c in range(1, 0x110000):
        if not 0xD800 <= c < 0xE000:
            pools.setdefault(unicodedata.category(chr(c)), []).append(chr(c))
    pools["ascii"] = [chr(c) for c in range(1, 128)] * 2
    pools["common"] = list("  \n'etaoinsr.,0123456789ETAOIN\u0301\u0308")
    return pools


def random_strings(rng, n, max_len=24):
    """Strings over all categories; some of one category, most of several."""
    pools = category_pools()
    names = sorted(pools)
    for _ in range(n):
        chosen = [pools[rng.choice(names)] for _ in range(rng.randint(1, 5))] + [pools["common"]] * rng.randint(0, 3)
        yield "".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randint(1, max_len)))


def special_texts(rng, tokens, types, limit):
    """Every special token in context, cut short, and doubled."""
    special = [t for t, k in zip(tokens, types) if k in (CONTROL, UNKNOWN, USER_DEFINED)]
    for t in special if len(special) <= limit else rng.sample(special, limit):
        yield t
        yield "a " + t + "b" + t + t + " \n" + t[:-1] + " " + t[1:] + "x" + t
    for _ in range(min(limit, 200)):
        yield "".join(rng.choice(special + [" ", "a", "\n", "<", "|>", "\u00e9"]) for _ in range(8)) if special else "a"


def corpus():
    """Text to train the small vocabularies on: the samples, shuffled word by word."""
    rng = random.Random(7)
    words = [w for s in SAMPLES for w in s.split(" ")]
    lines = list(SAMPLES) * 4
    for _ in range(600):
        lines.append(" ".join(rng.choice(words) for _ in range(12)))
    return lines
