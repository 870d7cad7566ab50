"""Requests that a server must refuse, and odd ones that it must understand, by RFC 9112 and 9110.

REFUSED is [(name, bytes, status)]: one reply with that status, then the connection is closed, whatever follows.
ACCEPTED is [(name, bytes, [status, ...])]: one reply each, in order, and the connection goes on (or says that it does not).
Both speak of routes that answer at once. What two readers of the same bytes could understand differently is in REFUSED.
"""

JSON = b"Content-Type: application/json\r\n"
HOST = b"Host: example.com\r\n"
CANARY = b"GET /canary HTTP/1.1\r\nHost: example.com\r\n\r\n"  # what a smuggled request would ask for: a 404


def get(target=b"/health", version=b"HTTP/1.1", host=HOST, fields=b"", method=b"GET"):
    return method + b" " + target + b" " + version + b"\r\n" + host + fields + b"\r\n"


def post(fields, body=b"", target=b"/tokenize", version=b"HTTP/1.1"):
    return b"POST " + target + b" " + version + b"\r\n" + HOST + JSON + fields + b"\r\n" + body


def chunked(body, fields=b""):
    return post(b"Transfer-Encoding: chunked\r\n" + fields, body)


TEXT = b'{"content": "abc"}'
SIZED = b"Content-Length: %d\r\n" % len(TEXT)
CHUNK = b"%x\r\n%b\r\n" % (len(TEXT), TEXT)
TE = b"Transfer-Encoding: chunked\r\n"

# ---- framing: what smuggling is made of (RFC 9112, section 6 and 11.2) ----

FRAMING = [
    ("length before coding", post(SIZED + TE, b"0\r\n\r\n" + CANARY), 400),
    ("coding before length", post(TE + SIZED, b"0\r\n\r\n" + CANARY), 400),
    ("coding with a zero length", post(TE + b"Content-Length: 0\r\n", CHUNK + b"0\r\n\r\n"), 400),
    ("two lengths", post(b"Content-Length: 0\r\n" + SIZED, CANARY), 400),
    ("two equal lengths", post(SIZED + SIZED, TEXT), 400),
    ("three lengths", post(SIZED * 3, TEXT), 400),
    ("list of lengths", post(b"Content-Length: 18, 18\r\n", TEXT), 400),
    ("list of lengths that differ", post(b"Content-Length: 18,0\r\n", TEXT), 400),
    ("signed length", post(b"Content-Length: +18\r\n", TEXT), 400),
    ("negative length", post(b"Content-Length: -18\r\n", TEXT), 400),
    ("hexadecimal length", post(b"Content-Length: 0x12\r\n", TEXT), 400),
    ("length with an exponent", post(b"Content-Length: 1e1\r\n", TEXT), 400),
    ("length with a fraction", post(b"Content-Length: 18.0\r\n", TEXT), 400),
    ("two numbers as a length", post(b"Content-Length: 1 8\r\n", TEXT), 400),
    ("length with an underscore", post(b"Content-Length: 1_8\r\n", TEXT), 400),
    ("quoted length", post(b'Content-Length: "18"\r\n', TEXT), 400),
    ("length with other digits", post("Content-Length: \u0661\u0668\r\n".encode(), TEXT), 400),
    ("no number as a length", post(b"Content-Length: many\r\n", TEXT), 400),
    ("empty length", post(b"Content-Length:\r\n", TEXT), 400),
    ("length and a vertical tab", post(b"Content-Length: 18\x0b\r\n", TEXT), 400),
    ("length and a form feed", post(b"Content-Length:\x0c18\r\n", TEXT), 400),
    ("length and a NUL", post(b"Content-Length: 18\0\r\n", TEXT), 400),
    ("length of 2^64", post(b"Content-Length: 18446744073709551616\r\n", TEXT), 413),
    ("length of 2^64 and 18", post(b"Content-Length: 18446744073709551634\r\n", TEXT), 413),
    ("length of 2^63", post(b"Content-Length: 9223372036854775808\r\n", TEXT), 413),
    ("length of 40 digits", post(b"Content-Length: " + b"9" * 40 + b"\r\n", TEXT), 413),
    ("length over the limit", post(b"Content-Length: 33554433\r\n", TEXT), 413),
    ("blank before the colon of a length", post(b"Content-Length : 18\r\n", TEXT), 400),
    ("tab before the colon of a coding", post(b"Transfer-Encoding\t: chunked\r\n", CHUNK), 400),
    ("folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", CHUNK), 400),
    ("folded length", post(b"Content-Length:\r\n\t18\r\n", TEXT), 400),
    ("coding behind a bare LF", post(b"X: x\nTransfer-Encoding: chunked\r\n", CHUNK), 400),
    ("coding behind a bare CR", post(b"X: x\rTransfer-Encoding: chunked\r\n", CHUNK), 400),
    ("coding with a vertical tab", post(b"Transfer-Encoding:\x0bchunked\r\n", CHUNK), 400),
    ("coding twice", post(TE + TE, CHUNK + b"0\r\n\r\n"), 400),
    ("chunked twice in a list", post(b"Transfer-Encoding: chunked, chunked\r\n", CHUNK), 400),
    ("another coding behind chunked", post(b"Transfer-Encoding: chunked, gzip\r\n", CHUNK), 400),
    ("a coding before chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNK), 501),
    ("identity and chunked", post(b"Transfer-Encoding: identity\r\n" + TE, CHUNK), 501),
    ("a coding that looks like chunked", post(b"Transfer-Encoding: xchunked\r\n", CHUNK), 501),
    ("a longer one", post(b"Transfer-Encoding: chunkedx\r\n", CHUNK), 501),
    ("a quoted one", post(b'Transfer-Encoding: "chunked"\r\n', CHUNK), 501),
    ("one with a parameter", post(b"Transfer-Encoding: chunked;q=1\r\n", CHUNK), 501),
    ("a blank within it", post(b"Transfer-Encoding: chun ked\r\n", CHUNK), 501),
    ("gzip alone", post(b"Transfer-Encoding: gzip\r\n", CHUNK), 501),
    ("coding in HTTP/1.0", post(TE, CHUNK + b"0\r\n\r\n", version=b"HTTP/1.0"), 400),
]

# ---- chunks (RFC 9112, section 7.1) ----

CHUNKS = [(name, chunked(body + b"0\r\n\r\n" + CANARY), status) for name, body, status in (
    ("a signed size", b"+12\r\n" + TEXT + b"\r\n", 400),
    ("a negative size", b"-1\r\n", 400),
    ("a size with 0x", b"0x12\r\n" + TEXT + b"\r\n", 400),
    ("no size", b"\r\n", 400),
    ("only an extension", b";a=b\r\n", 400),
    ("a size of other letters", b"zz\r\n", 400),
    ("a size with an underscore", b"1_2\r\n" + TEXT + b"\r\n", 400),
    ("a blank before the size", b" 12\r\n" + TEXT + b"\r\n", 400),
    ("a blank behind the size", b"12 \r\n" + TEXT + b"\r\n", 400),
    ("a size behind a bare LF", b"12\n" + TEXT + b"\r\n", 400),
    ("a size behind a bare CR", b"12\r" + TEXT + b"\r\n", 400),
    ("two CRs", b"12\r\r\n" + TEXT + b"\r\n", 400),
    ("a size of 2^64", b"10000000000000000\r\n", 413),
    ("a size of 2^64 and 18", b"10000000000000012\r\n" + TEXT + b"\r\n", 413),
    ("a size of 2^64 - 1", b"ffffffffffffffff\r\n", 413),
    ("a size of 2^63", b"8000000000000000\r\n", 413),
    ("sizes whose sum overflows", b"1\r\n{\r\nffffffffffffffff\r\n", 413),
    ("a size over the limit", b"2000001\r\n", 413),
    ("a size of many digits", b"f" * 300 + b"\r\n", 413),
    ("data that is longer than its size", b"2\r\n" + TEXT + b"\r\n", 400),
    ("data that is shorter", b"13\r\n" + TEXT + b"\r\n", 400),
    ("data without an end", b"12\r\n" + TEXT, 400),
    ("data behind which a bare LF comes", b"12\r\n" + TEXT + b"\n", 400),
    ("data behind which two bytes come", b"12\r\n" + TEXT + b"xx", 400),
    ("an extension without a name", b"12;\r\n" + TEXT + b"\r\n", 400),
    ("an extension without a value", b"12;a=\r\n" + TEXT + b"\r\n", 400),
    ("an extension with an open quote", b'12;a="b\r\n' + TEXT + b"\r\n", 400),
    ("an extension with a bare LF", b"12;a\nb\r\n" + TEXT + b"\r\n", 400),
    ("an extension with a NUL", b"12;a\0b\r\n" + TEXT + b"\r\n", 400),
    ("a long extension", b"12;" + b"a" * 600 + b"\r\n" + TEXT + b"\r\n", 400),
)] + [
    ("extensions of many chunks", chunked((b"1;a=" + b"b" * 400 + b"\r\n \r\n") * 60), 400),
    ("length in a trailer", chunked(CHUNK + b"0\r\nContent-Length: 5\r\n\r\n" + CANARY), 400),
    ("coding in a trailer", chunked(CHUNK + b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + CANARY), 400),
    ("folded trailer", chunked(CHUNK + b"0\r\nA: b\r\n c\r\n\r\n"), 400),
    ("trailer without a colon", chunked(CHUNK + b"0\r\nabc\r\n\r\n"), 400),
    ("trailer with a bare LF", chunked(CHUNK + b"0\r\nA: b\n\r\n"), 400),
    ("large trailer", chunked(CHUNK + b"0\r\nA: " + b"b" * 10000 + b"\r\n\r\n"), 431),
    ("many trailers", chunked(CHUNK + b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n"), 431),
]

# ---- header fields (RFC 9112, section 5) ----

FIELDS = [(name, get(fields=field), status) for name, field, status in (
    ("a blank before a colon", b"A : b\r\n", 400),
    ("a tab before a colon", b"A\t: b\r\n", 400),
    ("a folded field", b"A: b\r\n c\r\n", 400),
    ("a field folded to nothing", b"A: b\r\n \r\n", 400),
    ("a field without a colon", b"abc\r\n", 400),
    ("a field without a name", b": b\r\n", 400),
    ("a name with a bracket", b"A(b): c\r\n", 400),
    ("a name with a slash", b"A/b: c\r\n", 400),
    ("a name with a blank", b"A b: c\r\n", 400),
    ("a name with a NUL", b"A\0: b\r\n", 400),
    ("a name that is no ASCII", "\u00c4: b\r\n".encode(), 400),
    ("a value with a NUL", b"A: b\0c\r\n", 400),
    ("a value with a vertical tab", b"A: b\x0bc\r\n", 400),
    ("a value with a backspace", b"A: b\x08c\r\n", 400),
    ("a value with a DEL", b"A: b\x7f\r\n", 400),
    ("a value with a bare CR", b"A: b\rc\r\n", 400),
    ("a value with an escape sequence", b"A: \x1b[31m\r\n", 400),
    ("a line that ends with LF", b"A: b\n", 400),
    ("a line that ends with CR CR LF", b"A: b\r\r\n", 400),
    ("a line that begins with CR", b"\rA: b\r\n", 400),
    ("fields of 65 KiB", b"A: " + b"b" * 66000 + b"\r\n", 431),
    ("101 fields", b"A: b\r\n" * 101, 431),
    ("another expectation", b"Expect: miracles\r\n", 417),
)] + [
    ("a folded first field", b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    ("lines that end with LF", b"GET /health HTTP/1.1\nHost: x\n\n", 400),
    ("a head that ends with LF", b"GET /health HTTP/1.1\r\nHost: x\r\n\n", 400),
]

# ---- Host (RFC 9112, section 3.2) ----

HOSTS = [(name, get(host=host), 400) for name, host in (
    ("no Host", b""), ("two Hosts", b"Host: a\r\nHost: b\r\n"), ("two equal Hosts", HOST * 2), ("a blank in Host", b"Host: a b\r\n"),
    ("a path in Host", b"Host: a/b\r\n"), ("a user in Host", b"Host: a@b\r\n"), ("no number as a port", b"Host: a:b\r\n"),
    ("two ports", b"Host: a:1:2\r\n"), ("a signed port", b"Host: a:+1\r\n"), ("an open bracket", b"Host: [::1\r\n"),
    ("text behind a bracket", b"Host: [::1]a\r\n"), ("an escape that is none", b"Host: a%zz\r\n"), ("no ASCII in Host", b"Host: \xe9\r\n"),
    ("a backslash in Host", b"Host: a\\b\r\n"), ("a query in Host", b"Host: a?b\r\n"), ("a fragment in Host", b"Host: a#b\r\n"),
)] + [("no Host with an absolute target", get(b"http://example.com/health", host=b""), 400)]

# ---- request line (RFC 9112, section 3) ----

LINES = [(name, line + b"\r\n" + HOST + b"\r\n", status) for name, line, status in (
    ("HTTP/0.9", b"GET /health", 400),
    ("only a word", b"hello", 400),
    ("no method", b" /health HTTP/1.1", 400),
    ("no target", b"GET  HTTP/1.1", 400),
    ("two blanks", b"GET  /health HTTP/1.1", 400),
    ("tabs", b"GET\t/health\tHTTP/1.1", 400),
    ("a blank at the end", b"GET /health HTTP/1.1 ", 400),
    ("a fourth word", b"GET /health HTTP/1.1 x", 400),
    ("a blank in the target", b"GET /he alth HTTP/1.1", 400),
    ("a method of other characters", b"G@T /health HTTP/1.1", 400),
    ("a method with a colon", b"GET: /health HTTP/1.1", 400),
    ("a lower-case version", b"GET /health http/1.1", 400),
    ("a long version", b"GET /health HTTP/1.10", 400),
    ("a version without a dot", b"GET /health HTTP/11", 400),
    ("another protocol", b"GET /health RTSP/1.0", 400),
    ("HTTP/0.9 by name", b"GET /health HTTP/0.9", 505),
    ("HTTP/1.2", b"GET /health HTTP/1.2", 505),
    ("HTTP/2.0", b"GET /health HTTP/2.0", 505),
    ("HTTP/3.0", b"GET /health HTTP/3.0", 505),
    ("a bare CR", b"GET /health\rHTTP/1.1", 400),
    ("a NUL", b"GET /health\0 HTTP/1.1", 400),
    ("a byte beyond ASCII", b"GET /h\xc3\xa9 HTTP/1.1", 400),
    ("a fragment", b"GET /health#x HTTP/1.1", 400),
    ("a relative target", b"GET health HTTP/1.1", 400),
    ("an asterisk to GET", b"GET * HTTP/1.1", 400),
    ("an authority to GET", b"GET example.com:80 HTTP/1.1", 400),
    ("another scheme", b"GET ftp://example.com/health HTTP/1.1", 400),
    ("a user in the target", b"GET http://a@example.com/health HTTP/1.1", 400),
    ("a user and a password in it", b"GET http://a:b@example.com/health HTTP/1.1", 400),
    ("no host in the target", b"GET http:///health HTTP/1.1", 400),
    ("a bad port in the target", b"GET http://example.com:x/health HTTP/1.1", 400),
    ("a percent sign", b"GET /health% HTTP/1.1", 400),
    ("half an escape", b"GET /health%4 HTTP/1.1", 400),
    ("an escape that is none", b"GET /health%zz HTTP/1.1", 400),
    ("an escape of UTF-16", b"GET /health%u0041 HTTP/1.1", 400),
    ("an escaped NUL", b"GET /health%00 HTTP/1.1", 400),
    ("an escaped line end", b"GET /health%0d%0aA:%20b HTTP/1.1", 400),
    ("an overlong slash", b"GET /..%c0%af..%c0%afetc HTTP/1.1", 400),
    ("an escape that is no UTF-8", b"GET /%ff HTTP/1.1", 400),
    ("an escaped surrogate", b"GET /%ed%a0%80 HTTP/1.1", 400),
    ("a percent sign in the query", b"GET /health?a=% HTTP/1.1", 400),
    ("a proxy's method", b"CONNECT example.com:80 HTTP/1.1", 501),
    ("a line of 17 KiB", b"GET /" + b"a" * 17000 + b" HTTP/1.1", 414),
)] + [
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
    ("a blank first", b" GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a NUL first", b"\0GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a byte order mark first", b"\xef\xbb\xbfGET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("many empty lines first", b"\r\n" * 8 + get(), 400),
    ("LF first", b"\n" + get(), 400),
    ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100, 400),
    ("a handshake of SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 400),
    ("a greeting of SMTP", b"EHLO example.com\r\nMAIL FROM:<a@b>\r\n", 400),
    ("a command of Redis", b"*1\r\n$4\r\nPING\r\n", 400),
    ("a request for SOCKS", b"\x05\x01\x00", 400),
    ("a header of a proxy", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + get(), 400),
]

REFUSED = FRAMING + CHUNKS + FIELDS + HOSTS + LINES

# ---- odd and right ----

ACCEPTED = [
    ("an empty line first", b"\r\n" + get(), [200]),
    ("names in any case", get(host=b"hOsT: x\r\n", fields=b"cOnNeCtIoN: keep-alive\r\n"), [200]),
    ("no blanks, and many", get(host=b"Host:x\r\n", fields=b"A:b\r\nC: \t d \t\r\nE:\r\n"), [200]),
    ("bytes beyond ASCII in a value", get(fields=b"A: \xe9\xff\r\n"), [200]),
    ("100 fields", get(fields=b"A: b\r\n" * 99), [200]),
    ("an absolute target", get(b"http://example.com/health"), [200]),
    ("an absolute target with another host", get(b"HTTP://other.example:80/health?x"), [200]),
    ("an absolute target without a path", get(b"http://example.com"), [404]),
    ("escapes", get(b"/%68ealth?%20"), [200]),
    ("dot segments", get(b"/a/../b/./../%2e%2e/health"), [200]),
    ("an address as a host", get(host=b"Host: [::1]:80\r\n"), [200]),
    ("HTTP/1.0 without Host", get(version=b"HTTP/1.0", host=b""), [200]),
    ("a wish for another protocol", get(fields=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), [200]),
    ("OPTIONS *", get(b"*", method=b"OPTIONS"), [404]),
    ("a method nobody knows", get(method=b"BREW"), [405]),
    ("HEAD", get(method=b"HEAD"), [200]),
    ("a body to GET", get(fields=b"Content-Length: 5\r\n") + b"hello", [200]),
    ("zeros before a length", post(b"Content-Length: 00000018\r\n", TEXT), [200]),
    ("zeros before a size", chunked(b"00000000012\r\n" + TEXT + b"\r\n00\r\n\r\n"), [200]),
    ("a size in capitals", chunked(b"F\r\n" + TEXT[:15] + b"\r\n3\r\n" + TEXT[15:] + b"\r\n0\r\n\r\n"), [200]),
    ("extensions", chunked(b'12;a;b=c;d="e;\\"f"\r\n' + TEXT + b"\r\n0;a=b\r\n\r\n"), [200]),
    ("trailers", chunked(CHUNK + b"0\r\nA: b\r\nC:\r\n\r\n"), [200]),
    ("a chunk for every byte", chunked(b"".join(b"1\r\n%c\r\n" % c for c in TEXT) + b"0\r\n\r\n"), [200]),
    ("no body where one is expected", post(b""), [400]),
    ("a body that is no JSON", post(b"Content-Length: 5\r\n", b"hello"), [400]),
    ("three at once", get() + post(SIZED, TEXT) + get(b"/canary"), [200, 200, 404]),
]

# Whole requests for mutation.
STREAM = b'{"prompt": "Once upon a time", "max_tokens": 2, "stream": true}'
SEEDS = [r for _, r, _ in ACCEPTED] + [
    post(b"Content-Length: %d\r\n" % len(STREAM), STREAM, b"/v1/completions"),
    get(b"/v1/models") + get(b"/metrics") + post(SIZED, TEXT),
]
