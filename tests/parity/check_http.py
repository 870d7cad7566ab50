#!/usr/bin/env python3
"""The HTTP request parser against llhttp (the httptools package), live, over a generated corpus of requests.

    check_http.py [--build build] [--cases 60000] [--list]

What the parser accepts, llhttp must accept with the same method, target, version, persistence, header fields, body and
end: two servers that understand one byte stream differently are how requests are smuggled. What the parser refuses and
llhttp accepts is allowed (the parser is stricter) and counted by reason; --list shows an example of each. The other way
round only what known_difference() names is allowed.
"""
import argparse
import collections
import pathlib
import random
import re
import subprocess
import sys

try:
    import httptools
except ImportError:
    print("skip: httptools is not installed")
    sys.exit(77)

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]
TARGETS = [b"/", b"/v1/models?x=1", b"/a/../b", b"/%41%2f?q=%20", b"http://example.com/a?b", b"http://[::1]:80", b"*", b"a",
           b"/a#b", b"/\xc3\xa9", b"//x", b"/a|b{c}", b"", b"/a b", b"/\"<>\\^`", b"http://u@x/"]
VERSIONS = [b"HTTP/1.1"] * 40 + [b"HTTP/1.0"] * 8 + [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b""]
HOSTS = [b"Host: example.com\r\n"] * 30 + [b"", b"Host: a\r\nHost: b\r\n", b"Host:\r\n", b"Host: a b\r\n", b"hOST:x:80\r\n"]
FIELDS = [b"A: b\r\n", b"A:\r\n", b"A:  b \t \r\n", b"A : b\r\n", b"A\t: b\r\n", b"A: b\r\n c\r\n", b" A: b\r\n", b"A: b\n", b"A: b\r",
          b"A: \xe9\r\n", b"A: b\x00c\r\n", b"A: b\x0bc\r\n", b"A: b\x7f\r\n", b"A\r\n", b": b\r\n", b"A(b): c\r\n", b"\xe9: b\r\n",
          b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: x, close\r\n", b"Connection: close, keep-alive\r\n",
          b"Accept: */*\r\n", b"Expect: 100-continue\r\n", b"\rA: b\r\n", b"A: b\r\r\n", b"A:b:c\r\n", b"A: \r\n b\r\n"]
LENGTHS = [b"Content-Length: 5\r\n"] * 30 + [
    b"Content-Length: 05\r\n", b"Content-Length: +5\r\n", b"Content-Length: -5\r\n", b"Content-Length: 5 \r\n", b"Content-Length: 5,5\r\n",
    b"Content-Length: 5, 6\r\n", b"Content-Length: 0x5\r\n", b"Content-Length:\r\n", b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length : 5\r\n", b"Content_Length: 5\r\n", b"Content-Length: 5\x0b\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 5 5\r\n", b"Content-Length: 5\r\n 0\r\n", b"Content-Length: 0\r\n",
    b"Content-Length\x00: 5\r\n", b"Content-Length: \t5\r\n", b"Content-Length: 5;a\r\n", b"Content-Length: 1e1\r\n"]
CODINGS = [b"Transfer-Encoding: chunked\r\n"] * 60 + [
    b"Transfer-Encoding: Chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunkedx\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"Transfer-Encoding: \"chunked\"\r\n", b"Transfer-Encoding:\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: ,chunked\r\n",
    b"Transfer-Encoding: chunked,\r\n", b"Transfer-Encoding:\r\n chunked\r\n", b"X: x\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked;a=b\r\n",
    b"Transfer-Encoding\r\n: chunked\r\n", b"Transfer_Encoding: chunked\r\n", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chun ked\r\n", b"Transfer-Encoding: chunked \t\r\n", b"Transfer-Encoding:chunked\r\n"]
CHUNKS = [b"5\r\nhello\r\n"] * 30 + [
    b"05\r\nhello\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n", b"5;a=b\r\nhello\r\n", b"5;a=\"b;c\"\r\nhello\r\n", b"5;a;b\r\nhello\r\n",
    b"5;\r\nhello\r\n", b"5 \r\nhello\r\n", b"5 ;a\r\nhello\r\n", b" 5\r\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"-5\r\nhello\r\n",
    b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhelloX\r\n", b"5\r\nhello", b"5\rhello\r\n", b"10000000000000005\r\nhello\r\n", b"5;a=b c\r\nhello\r\n",
    b"5;a= b\r\nhello\r\n", b"5;a\nb\r\nhello\r\n", b"5;a\x00\r\nhello\r\n", b"5_0\r\nhello\r\n", b"5\r\n\r\nhello\r\n", b"\r\n5\r\nhello\r\n",
    b"5;a=\"\\\"\"\r\nhello\r\n", b"5;a=\"\xe9\"\r\nhello\r\n", b"5;=b\r\nhello\r\n", b"5;a=\r\nhello\r\n", b"5;a=\"b\"c\r\nhello\r\n"]
ENDS = [b"0\r\n\r\n"] * 30 + [b"000\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0;a\r\n\r\n", b"0\n\r\n", b"0\r\n\n", b"0\r\n",
                             b"0\r\nA : b\r\n\r\n", b"0\r\n\rX", b"0\r\nA\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\n b\r\n\r\n"]
TAILS = [b"", b"", b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"x"]
BYTES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"0", b",", b";", b"\"", b"=", b"-", b"a"]


def compose(r):
    def fields(p):
        return b"".join(r.choice(FIELDS) for _ in range(3) if r.random() < p)
    method, target = r.choice(METHODS), r.choice(TARGETS[:6] if r.random() < 0.9 else TARGETS)
    line = b" ".join([method, target, r.choice(VERSIONS)]) + b"\r\n"
    kind = r.random()
    head = r.choice([b""] * 20 + [b"\r\n", b"\r\n\r\n", b"\n"]) + line + r.choice(HOSTS) + fields(0.15)
    if kind < 0.3:
        body = b"\r\n"
    elif kind < 0.6:
        body = r.choice(LENGTHS) + fields(0.1) + b"\r\nhello"
    else:
        body = r.choice(CODINGS) + fields(0.1) + b"\r\n" + b"".join(r.choice(CHUNKS) for _ in range(r.randrange(3))) + r.choice(ENDS)
    return head + body + r.choice(TAILS)


def mutate(r, data):
    for _ in range(r.choice([0, 0, 0, 1, 2])):
        at = r.randrange(len(data) + 1)
        cut = r.choice([0, 0, 1, 2])
        data = data[:at] + (r.choice(BYTES) if r.random() < 0.8 else b"") + data[at + cut:]
    return data


class Listener:
    def __init__(self):
        self.url = self.body = b""
        self.headers, self.in_head, self.complete = [], True, 0

    def on_url(self, url):
        self.url += url if not self.complete else b""

    def on_header(self, name, value):
        if self.in_head and not self.complete:
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self):
        if not self.complete:
            self.in_head = False
            self.method, self.version, self.keep = (self.parser.get_method(), self.parser.get_http_version(),
                                                    self.parser.should_keep_alive())

    def on_body(self, body):
        self.body += body if not self.complete else b""

    def on_message_complete(self):
        self.complete += 1


def llhttp(data):
    """("ok", request), ("more", None) or ("error", reason); the first request only."""
    listener = Listener()
    listener.parser = httptools.HttpRequestParser(listener)
    try:
        for i in range(len(data)):  # byte by byte: where the first request ends is known
            listener.parser.feed_data(data[i:i + 1])
            if listener.complete:
                break
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as e:
        return "error", str(e), 0
    if not listener.complete:
        return "more", None, len(data)
    return "ok", (listener.method, listener.url, listener.version[-1:], listener.keep, listener.body, listener.headers), i + 1


def ours(line):
    parts = line.split(" ")
    if parts[0] != "ok":
        return parts[0], " ".join(parts[1:]), 0

    def bytes_of(text):
        return b"" if text == "-" else bytes.fromhex(text)
    headers = [tuple(bytes_of(x) for x in field.split(":")) for field in parts[7:]]
    return "ok", (bytes_of(parts[2]), bytes_of(parts[3]), parts[4], parts[5] == "1", bytes_of(parts[6]), headers), int(parts[1])


def reason_of(text):
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'|0x..", "...", text))


def known_difference(mine, theirs):
    """The reason for which the two may differ on a request that the parser accepts, or None."""
    request = mine[1]
    options = [option.strip().lower() for name, value in request[5] if name.lower() == b"connection" for option in value.split(b",")]
    if theirs[0] == "error":
        if theirs[1] in ("Invalid method encountered", "Expected space after method") and request[0] not in METHODS:
            return "llhttp knows a fixed list of methods"
        if "Transfer-Encoding" in theirs[1] and any(n.lower() == b"transfer-encoding" and v.lower() == b"chunked" for n, v in request[5]):
            return "llhttp takes no tab behind 'chunked'"
        return None
    if {b"close", b"keep-alive"} <= set(options) and mine[2] == theirs[2] and not request[3]:
        same = request[:3] + request[4:] == theirs[1][:3] + theirs[1][4:]
        return "'close' beside 'keep-alive': RFC 9112, 9.3 has close win" if same else None
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--cases", type=int, default=60000)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    probe = arguments.build / "http_probe"
    if not probe.exists():
        print(f"skip: {probe} is not built")
        sys.exit(77)
    r = random.Random(1)
    corpus = list(dict.fromkeys(mutate(r, compose(r)) for _ in range(arguments.cases)))
    out = subprocess.run([probe], input="".join(data.hex() + "\n" for data in corpus), text=True, capture_output=True, check=True)
    lines = out.stdout.split("\n")[:-1]
    assert len(lines) == len(corpus), (len(lines), len(corpus))
    counts, known, stricter, failures = collections.Counter(), collections.Counter(), {}, []
    for data, line in zip(corpus, lines):
        mine, theirs = ours(line), llhttp(data)
        counts[mine[0], theirs[0]] += 1
        if mine[0] == "ok" and mine != theirs:
            reason = known_difference(mine, theirs)
            known[reason] += reason is not None
            if reason is None:
                failures.append((data, mine, theirs))
        elif mine[0] == "error" and theirs[0] == "ok":
            stricter.setdefault(reason_of(mine[1]), []).append(data)
        elif mine[0] == "more" and theirs[0] == "ok":
            failures.append((data, mine, theirs))
    for reason, examples in sorted(stricter.items(), key=lambda item: -len(item[1])):
        if arguments.list:
            print(f"stricter {len(examples):6}  {reason}\n                 {examples[0]!r}")
    for reason, n in sorted((+known).items()):
        print(f"known    {n:6}  {reason}")
    for data, mine, theirs in failures[:20]:
        print(f"DIFFERENT {data!r}\n  tandem {mine}\n  llhttp {theirs}")
    both = counts["ok", "ok"]
    print(f"{len(corpus)} requests: {both} accepted by both, {len(failures)} different, {sum(known.values())} for known reasons, "
          f"{sum(map(len, stricter.values()))} refused by the stricter parser only ({len(stricter)} reasons)")
    sys.exit(1 if failures or both < len(corpus) // 20 else 0)


if __name__ == "__main__":
    main()
