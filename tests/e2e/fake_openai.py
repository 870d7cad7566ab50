"""A small OpenAI-compatible server that misbehaves on demand: a word in the prompt says how. It keeps what it was asked.

    with FakeOpenAI() as fake:
        ... fake.url, fake.requests (dicts: path, headers, body)

Words: FAKE-500, FAKE-429, FAKE-HTML (a 502 of a proxy), FAKE-CUT (the stream just ends), FAKE-BREAK (the connection breaks),
FAKE-ERROR (an error within the stream), FAKE-GARBAGE (no JSON), FAKE-HANG (no reply), FAKE-CLOSE (the connection is closed
without one), FAKE-WHOLE (no stream although asked for one), FAKE-NO-USAGE, FAKE-NO-DONE, FAKE-EMPTY, FAKE-ECHO (the prompt
is the answer), FAKE-EVIL (markup and control characters). Anything else is answered with `tokens` tokens.
"""
import asyncio
import json
import ssl
import threading

EVIL = "</title><script>alert(1)</script>\x1b[31m\u009b"


def prompt_of(body):
    return body.get("prompt") or "\n".join(str(m.get("content")) for m in body.get("messages", []))


class FakeOpenAI:
    def __init__(self, *, key=None, models=("fake-model",), tokens=5, delay_s=0.0, certificate=None, port=0):
        self.key, self.models, self.tokens, self.delay_s = key, models, tokens, delay_s
        self.certificate = certificate  # (certificate file, key file)
        self.requests, self.port = [], port

    @property
    def url(self):
        return f"https://localhost:{self.port}" if self.certificate else f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(20)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        context = None
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context, backlog=1000))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    async def _serve(self, reader, writer):
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split("\r\n")[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"null")
        self.requests.append({"method": method, "path": path, "headers": headers, "body": body})
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return await self._reply(writer, 401, {"error": {"message": "Incorrect API key provided."}})
        if path.endswith("/models"):
            return await self._reply(writer, 200, {"data": [{"id": m} for m in self.models]})
        if body["model"] not in self.models:
            return await self._reply(writer, 404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        return await self._complete(writer, body)

    async def _reply(self, writer, status, body, type="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nServer: fake/1\r\nContent-Type: {type}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                     + data)
        await writer.drain()
        return True

    async def _complete(self, writer, body):
        prompt = prompt_of(body)
        n = min(self.tokens, body.get("max_tokens") or self.tokens)
        words = [f"word{i} " for i in range(n)]
        if "FAKE-ECHO" in prompt:
            words = [prompt]
        if "FAKE-EVIL" in prompt:
            words = [EVIL]
        if "FAKE-500" in prompt:
            return await self._reply(writer, 500, {"error": {"message": f"Internal {EVIL} trouble."}})
        if "FAKE-429" in prompt:
            return await self._reply(writer, 429, {"error": {"message": "Slow down."}})
        if "FAKE-HTML" in prompt:
            return await self._reply(writer, 502, b"<html>Bad Gateway</html>", "text/html")
        if "FAKE-CLOSE" in prompt:
            return False
        if "FAKE-HANG" in prompt:
            await asyncio.sleep(3600)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words), "total_tokens": 0,
                 "prompt_tokens_details": {"cached_tokens": 1}}
        if not body.get("stream") or "FAKE-WHOLE" in prompt:
            message = {"index": 0, "message": {"role": "assistant", "content": "".join(words)}, "finish_reason": "stop"}
            return await self._reply(writer, 200, {"choices": [message], "usage": usage})
        return await self._stream(writer, prompt, words, usage, "messages" in body)

    async def _stream(self, writer, prompt, words, usage, chat):
        def send(event):
            text = event if isinstance(event, str) else json.dumps(event)
            data = f"data: {text}\r\n\r\n".encode() if "FAKE-CRLF" in prompt else f"data: {text}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def choice(text, reason=None):
            part = {"delta": {"content": text} if text is not None else {}} if chat else {"text": text or ""}
            return {"choices": [{"index": 0, **part, "finish_reason": reason}], "system_fingerprint": "fp_fake"}

        writer.write(b"HTTP/1.1 200 OK\r\nServer: fake/1\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        if chat:
            send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for i, word in enumerate([] if "FAKE-EMPTY" in prompt else words):
            await asyncio.sleep(self.delay_s)
            send(choice(word))
            await writer.drain()
            if i == 1 and "FAKE-BREAK" in prompt:
                return False
            if i == 1 and "FAKE-ERROR" in prompt:
                send({"error": {"message": f"engine lost {EVIL}"}})
            if i == 1 and "FAKE-GARBAGE" in prompt:
                send("{not json")
        if "FAKE-CUT" not in prompt:
            send(choice(None, "stop"))
            if "FAKE-NO-USAGE" not in prompt:
                send({"choices": [], "usage": usage})
            if "FAKE-NO-DONE" not in prompt:
                send("[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
