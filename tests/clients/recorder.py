"""A proxy in front of a server that keeps what passes: each request as it came, each reply as it left, byte for byte.
A reply is passed on as it comes, so that a stream stays one."""
import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect"}


class Exchange:
    """One request and its reply; `whole` says that the reply came to its end."""

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.path = urllib.parse.urlsplit(target).path
        self.status, self.reply_headers, self.reply, self.whole = None, {}, b"", False

    def json(self):
        return json.loads(self.body)

    def streams(self):
        return self.reply_headers.get("content-type", "").startswith("text/event-stream")

    def __repr__(self):
        return f"<{self.method} {self.target} {len(self.body)} bytes: {self.status}, {len(self.reply)} bytes>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(self.command, self.path, headers, body)
        self.server.keep(exchange)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=600)
        try:
            upstream.request(self.command, self.path, body=body or None,
                             headers={n: v for n, v in headers.items() if n not in HOP_BY_HOP})
            self.answer(exchange, upstream.getresponse())
        finally:
            upstream.close()

    do_GET = do_POST = do_DELETE = do_HEAD = pass_on

    def answer(self, exchange, reply):
        exchange.status = reply.status
        exchange.reply_headers = {name.lower(): value for name, value in reply.getheaders()}
        self.send_response(reply.status)
        for name, value in exchange.reply_headers.items():
            if name not in HOP_BY_HOP and name not in ("date", "server"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := reply.read1(65536):
            exchange.reply += piece
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.whole = True
        self.wfile.write(b"0\r\n\r\n")


class Recorder(http.server.ThreadingHTTPServer):
    """with Recorder(server.port) as r: a client speaks to r.url; r.exchanges is what passed, in the order of requests."""
    daemon_threads = True

    def __init__(self, upstream_port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream_port = upstream_port
        self.exchanges, self.lock = [], threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def keep(self, exchange):
        with self.lock:
            self.exchanges.append(exchange)

    def of(self, path):
        with self.lock:
            return [e for e in self.exchanges if e.path == path]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        self.shutdown()
        self.server_close()
