#!/usr/bin/env python3
"""An MCP server with faults to order, for tests/parity/check_mcp.py.

    mcp_faulty.py stdio|http|sse [--era legacy|modern|both] [--revision R] [--port-file F] [--slow-start S]
                  [--on-discover error|silent|exit] [--replies json|sse] [--pages N] [--login]

What goes wrong is a tool's name. `http` is streamable HTTP (sessions in the legacy era), `sse` the transport of 2024-11-05.
"""
import argparse
import base64
import http.server
import json
import os
import pathlib
import queue
import sys
import threading
import time
import uuid

MODERN = "2026-07-28"
LEGACY = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
HUGE = 100 << 20


def tool(name, properties=None, **more):
    return {"name": name, "description": f"Does {name}.", "inputSchema": {"type": "object", "properties": properties or {}}, **more}


class State:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.tools = [tool("echo", {"text": {"type": "string", "x-mcp-header": "Text"}}, annotations={"readOnlyHint": True, "idempotentHint": True})]
        self.tools += [tool(n) for n in ("fail hang crash huge garbage noise slow change rpc_error ask big env batch parts structured flaky "
                                         "forget log cancelled headers drop needs_input silent_progress").split()]
        self.tools.append(tool("picky", {"list": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}}))
        if "TALLY" in os.environ:  # a file that gets a line for each call; the second one says that it may be called again
            self.tools += [tool("tally"), tool("tally_again", annotations={"idempotentHint": True})]
        if options.bad_header:
            self.tools.append({"name": "bad_header", "inputSchema": {"type": "object", "x-mcp-header": "X"}})
        self.cancelled = []
        self.answers = {}  # to our own requests: id -> Queue
        self.listeners = []  # functions that send to whoever listens
        self.sessions = set()
        self.listening = []  # connections

    def broadcast(self, message):
        for send in list(self.listeners):
            send(message)


def content(text, **more):
    return {"content": [{"type": "text", "text": text}], **more}


class Session:
    """One conversation. send(message) goes to the stream of the request at hand; raw(bytes) writes what is no message."""

    def __init__(self, state):
        self.state = state

    def result_of_list(self, items, member, params):
        n = self.state.options.pages
        if not n:
            return {member: items}
        start = int(params.get("cursor", "0"))
        result = {member: items[start:start + n]}
        if start + n < len(items):
            result["nextCursor"] = str(start + n)
        return result

    def handle(self, m, send, raw, headers=None):
        """True: answered, or to be left without an answer."""
        o, state = self.state.options, self.state
        method, params, ident = m.get("method"), m.get("params", {}), m.get("id")
        if method is None:
            waiting = state.answers.get(m.get("id"))
            if waiting:
                waiting.put(m)
            return
        if ident is None:
            if method == "notifications/cancelled":
                state.cancelled.append(params.get("requestId"))
            return
        modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})

        def reply(result):
            if modern:
                result = {"resultType": "complete", **result}
            send({"jsonrpc": "2.0", "id": ident, "result": result})

        def error(code, text, data=None):
            send({"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": text, **({"data": data} if data else {})}})
        capabilities = {"tools": {"listChanged": True}, "resources": {"listChanged": True}, "prompts": {}, "logging": {}}
        info = {"name": "faulty", "version": "1"}
        if method == "server/discover":
            if o.era == "legacy":
                if o.on_discover == "exit":
                    os._exit(4)
                if o.on_discover == "silent":
                    return
                return error(-32601, "Method not found")
            return reply({"supportedVersions": [MODERN] + (LEGACY if o.era == "both" else []), "capabilities": capabilities, "serverInfo": info})
        if method == "initialize":
            if o.era == "modern":
                return error(-32022, "Unsupported protocol version", {"supported": [MODERN]})
            return reply({"protocolVersion": o.revision or params["protocolVersion"], "capabilities": capabilities, "serverInfo": info})
        if modern != (o.era == "modern" or (o.era == "both" and modern)):
            return error(-32602, "wrong era")
        if modern and params["_meta"]["io.modelcontextprotocol/protocolVersion"] != MODERN:
            return error(-32022, "Unsupported protocol version", {"supported": [MODERN]})
        if method == "ping":
            return reply({})
        if method == "logging/setLevel":
            return reply({})
        if method == "subscriptions/listen":
            tag = {"_meta": {"io.modelcontextprotocol/subscriptionId": ident}}
            send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {**tag, "notifications": params["notifications"]}})
            state.listeners.append(lambda n: send({**n, "params": tag}))
            return "keep"
        if method == "tools/list":
            return reply(self.result_of_list(state.tools, "tools", params))
        if method == "resources/list":
            return reply(self.result_of_list([{"uri": f"test://{i}", "name": f"r{i}"} for i in range(5)], "resources", params))
        if method == "resources/templates/list":
            return reply({"resourceTemplates": [{"uriTemplate": "test://{n}", "name": "t"}]})
        if method == "prompts/list":
            return reply({"prompts": [{"name": "greet"}]})
        if method == "resources/read":
            return reply({"contents": [{"uri": params["uri"], "text": "content of " + params["uri"]}]})
        if method == "prompts/get":
            return reply({"messages": [{"role": "user", "content": {"type": "text", "text": "Hello " + params.get("arguments", {}).get("name", "?")}}]})
        if method == "tools/call":
            return self.call(ident, params, reply, error, send, raw, headers, modern)
        return error(-32601, "Method not found")

    def call(self, ident, params, reply, error, send, raw, headers, modern):
        state, name, arguments = self.state, params["name"], params.get("arguments", {})
        token = params.get("_meta", {}).get("progressToken")
        if name == "echo":
            return reply(content(arguments.get("text", "")))
        if name == "picky":
            return reply(content("picked"))
        if name == "fail":
            return reply(content("it went wrong", isError=True))
        if name == "hang":
            return "keep"
        if name == "crash":
            return raw("crash")
        if name == "huge":
            return reply(content("x" * HUGE))
        if name == "garbage":
            return raw(b'{"jsonrpc": "2.0", "id": ' + str(ident).encode() + b', "result": {"content": [}}\n')
        if name in ("tally", "tally_again"):
            with open(os.environ["TALLY"], "a") as out:
                out.write(name + "\n")
            time.sleep(float(os.environ["TALLY_SECONDS"]))
            return reply(content(arguments["text"]))
        if name == "noise":
            raw(b"a line of a log\n")
            return reply(content("after the noise"))
        if name in ("slow", "silent_progress"):
            for i in range(arguments.get("steps", 5)):
                time.sleep(arguments.get("ms", 100) / 1000)
                if token is not None and name == "slow":
                    send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": i + 1, "total": 5, "message": "step"}})
            return reply(content("done"))
        if name == "change":
            state.tools.append(tool(arguments.get("name", "added")))
            reply(content("changed"))
            time.sleep(0.05)
            state.broadcast({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            return
        if name == "rpc_error":
            return error(-32602, "bad arguments, says the server")
        if name == "ask":
            own = "ask-" + uuid.uuid4().hex
            state.answers[own] = queue.Queue()
            send({"jsonrpc": "2.0", "id": own, "method": arguments.get("method", "sampling/createMessage"), "params": {}})
            answer = state.answers[own].get(timeout=10)
            return reply(content(json.dumps(answer.get("error") or answer.get("result"))))
        if name == "big":
            return reply(content("é" * arguments["n"]))
        if name == "env":
            return reply(content(json.dumps(dict(os.environ))))
        if name == "batch":
            raw(json.dumps([{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "in a batch"}},
                            {"jsonrpc": "2.0", "id": ident, "result": content("from a batch")}]).encode() + b"\n")
            return
        if name == "parts":
            return reply({"content": [{"type": "text", "text": "one"}, {"type": "image", "data": "AAAA", "mimeType": "image/png"},
                                      {"type": "resource_link", "uri": "test://1", "name": "r1"},
                                      {"type": "resource", "resource": {"uri": "test://2", "text": "inside"}}, {"type": "strange"}]})
        if name == "structured":
            return reply({"content": [], "structuredContent": {"answer": 42}})
        if name == "flaky":
            return raw("flaky")
        if name == "forget":
            state.sessions.clear()
            return reply(content("forgotten"))
        if name == "log":
            for i in range(arguments.get("n", 1)):
                send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "warning", "data": f"logged {i}"}})
            print("on standard error", file=sys.stderr, flush=True)
            return reply(content("logged"))
        if name == "cancelled":
            return reply(content(json.dumps(state.cancelled)))
        if name == "drop":  # whoever listens, and hears nothing of the new tool
            state.tools.append(tool("unheard"))
            for connection in state.listening:
                connection.shutdown(2)
            state.listening.clear()
            return reply(content("dropped"))
        if name == "headers":
            return reply(content(json.dumps(headers or {})))
        if name == "needs_input":
            return reply({"resultType": "input_required", "inputRequests": {}} if modern else content("no"))
        return error(-32602, "Unknown tool: " + name)


def serve_stdio(state):
    lock = threading.Lock()

    def write(data):
        with lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def send(message):
        write(json.dumps(message).encode() + b"\n")

    def raw(what):
        if what == "crash":
            os._exit(3)
        if what != "flaky":
            write(what)
    session = Session(state)
    if state.options.era == "legacy":
        state.listeners.append(send)
    for line in sys.stdin:
        m = json.loads(line)
        threading.Thread(target=session.handle, args=(m, send, raw), daemon=True).start()


def decoded(value):
    if value and value.startswith("=?base64?") and value.endswith("?="):
        return base64.b64decode(value[9:-2]).decode()
    return value


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def plain(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        self.wfile.write(body)

    def begin_events(self, **headers):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()

    def event(self, data, name=None, ident=None, retry=None):
        text = (f"event: {name}\n" if name else "") + (f"id: {ident}\n" if ident else "") + (f"retry: {retry}\n" if retry else "") + f"data: {data}\n\n"
        try:
            self.wfile.write(text.encode())
            self.wfile.flush()
        except OSError:
            pass  # the client has gone

    def wait_for_end(self):
        try:
            self.connection.settimeout(None)
            self.connection.recv(1)
        except OSError:
            pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        state = self.server.state
        if state.options.transport == "sse":
            ident = uuid.uuid4().hex
            self.begin_events()
            send = lambda m: self.event(json.dumps(m), "message")  # noqa: E731
            state.sessions.add(ident)
            state.streams[ident] = send
            state.drops[ident] = self.connection
            state.listeners.append(send)
            self.event(f"/messages?session={ident}", "endpoint")
            self.wait_for_end()
            state.listeners.remove(send)
            return
        if state.options.era == "modern":
            return self.plain(405)
        if self.headers.get("Mcp-Session-Id") not in state.sessions:
            return self.plain(404)
        last = self.headers.get("Last-Event-ID", "")
        if last.startswith("flaky"):
            self.begin_events()
            _, ident, step = last.split("-")
            if step == "1":
                return self.event(json.dumps({"jsonrpc": "2.0", "method": "notifications/x"}), ident=f"flaky-{ident}-2", retry=50)
            return self.event(json.dumps({"jsonrpc": "2.0", "id": int(ident), "result": content("resumed")}))
        self.begin_events()
        send = lambda m: self.event(json.dumps(m))  # noqa: E731
        state.listeners.append(send)
        state.listening.append(self.connection)
        self.wait_for_end()
        state.listeners.remove(send)

    def do_DELETE(self):
        state = self.server.state
        state.sessions.discard(self.headers.get("Mcp-Session-Id"))
        if state.options.port_file:
            pathlib.Path(state.options.port_file + ".deleted").touch()
        self.plain(200)

    def do_POST(self):
        state = self.server.state
        m = json.loads(self.body())
        if state.options.login and self.headers.get("Authorization") != "Bearer s3cret":
            return self.plain(401)
        if state.options.transport == "sse":
            return self.post_sse(state, m)
        modern = "io.modelcontextprotocol/protocolVersion" in m.get("params", {}).get("_meta", {})
        if modern and state.options.era == "legacy":
            return self.plain(400, json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Bad Request: no session"}}).encode())
        if modern:
            wanted = {"MCP-Protocol-Version": MODERN, "Mcp-Method": m["method"]}
            if m["method"] == "tools/call":
                wanted["Mcp-Name"] = m["params"]["name"]
                text = m["params"].get("arguments", {}).get("text")
                if m["params"]["name"] == "echo" and isinstance(text, str):
                    wanted["Mcp-Param-Text"] = text
            wrong = [k for k, v in wanted.items() if decoded(self.headers.get(k)) != v]
            if wrong:
                return self.plain(400, json.dumps({"jsonrpc": "2.0", "id": m.get("id"), "error": {"code": -32020, "message": f"Header mismatch: {wrong}"}}).encode())
        extra = {}
        if not modern and m.get("method") == "initialize":
            ident = uuid.uuid4().hex
            state.sessions.add(ident)
            extra["Mcp_Session_Id"] = ident
        elif not modern and self.headers.get("Mcp-Session-Id") not in state.sessions:
            return self.plain(404, b"")
        if "id" not in m or "method" not in m:
            Session(state).handle(m, None, None)
            return self.plain(202)
        self.answer(state, m, extra, modern)

    def answer(self, state, m, extra, modern):
        streams = state.options.replies == "sse" or m["method"] == "subscriptions/listen" or (m["method"] == "tools/call" and m["params"]["name"] in ("slow", "ask", "log", "hang"))
        out = []
        if streams:
            self.begin_events(**extra)
            send = lambda x: self.event(json.dumps(x))  # noqa: E731
        else:
            send = out.append

        def raw(what):
            if what == "crash":
                self.close_connection = True
                self.connection.close()
                out.append(None)
            elif what == "flaky" and not modern:
                if not streams:
                    self.begin_events()
                    out.append(None)
                self.event("", ident=f"flaky-{m['id']}-1", retry=50)
            elif what == "flaky":
                out.append({"jsonrpc": "2.0", "id": m["id"], "result": content("no resuming")})
            elif streams:
                self.event(what.decode().strip())
            else:
                out.append(what)
        keep = Session(state).handle(m, send, raw, dict(self.headers.items()))
        if keep == "keep":
            if m["method"] == "subscriptions/listen":
                state.listening.append(self.connection)
            self.wait_for_end()
            return
        if streams or None in out:
            return
        body = [x for x in out if x != b"a line of a log\n"][-1]
        self.plain(200, body if isinstance(body, bytes) else json.dumps(body).encode(), **extra)

    def post_sse(self, state, m):
        ident = self.path.split("session=")[-1]
        if ident not in state.sessions or not self.path.startswith("/messages"):
            return self.plain(405 if not self.path.startswith("/messages") else 404)
        send = state.streams[ident]

        def raw(what):
            if what == "crash":
                state.sessions.discard(ident)
                state.drops[ident].shutdown(2)
            elif what != "flaky":
                state.drops[ident].sendall(b"event: message\ndata: " + what.strip() + b"\n\n")
        self.plain(202, b"Accepted", "text/plain")
        self.wfile.flush()
        threading.Thread(target=Session(state).handle, args=(m, send, raw, dict(self.headers.items())), daemon=True).start()


def serve_http(state):
    state.streams, state.drops = {}, {}

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass
    server = Server(("127.0.0.1", state.options.port), Handler)
    server.state = state
    if state.options.port_file:
        with open(state.options.port_file + ".new", "w") as f:
            f.write(str(server.server_address[1]))
        os.rename(state.options.port_file + ".new", state.options.port_file)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=["stdio", "http", "sse"])
    parser.add_argument("--era", default="legacy", choices=["legacy", "modern", "both"])
    parser.add_argument("--revision")
    parser.add_argument("--port-file")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slow-start", type=float, default=0)
    parser.add_argument("--on-discover", default="error", choices=["error", "silent", "exit"])
    parser.add_argument("--replies", default="json", choices=["json", "sse"])
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--login", action="store_true")
    parser.add_argument("--bad-header", action="store_true")
    parser.add_argument("--hang", action="store_true")
    options = parser.parse_args()
    if options.hang:
        time.sleep(3600)
    time.sleep(options.slow_start)
    state = State(options)
    report = threading.excepthook  # of threads that still write when the client has gone, nothing
    threading.excepthook = lambda e: None if issubclass(e.exc_type, (OSError, ValueError)) else report(e)
    if options.transport == "stdio":
        serve_stdio(state)
    else:
        serve_http(state)


if __name__ == "__main__":
    main()
