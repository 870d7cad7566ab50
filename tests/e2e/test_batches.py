"""Files and batches: /v1/files, /v1/batches, their rows behind everybody else's requests, through kill -9 and restarts."""
import json
import signal
import socket
import sqlite3

import httpx
import openai
import pytest

from harness import PATIENCE, Server, failing_server, metric, together

pytestmark = pytest.mark.cpu_only("rows are compared with requests of their own")

ENDED = ("completed", "failed", "expired", "cancelled")
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


@pytest.fixture
def batching(new_scripted, tmp_path):
    """Scripted answers, and a journal."""
    def make(*options, **arguments):
        return new_scripted("--journal", tmp_path / "journal", *options, **arguments)
    return make


@pytest.fixture(scope="module")
def served(tiny_path, tmp_path_factory):
    """A model that computes, and a journal."""
    with Server(tiny_path, "--threads", 2, "--kv-memory", "128M", "--journal", tmp_path_factory.mktemp("served"),
                "--file-max-mb", 24, "--files-max-mb", 40, "--max-sequences", 8, "--batch-max-rows", 100) as server:
        yield server


def line(id, body, url=CHAT, **changes):
    return {"custom_id": id, "method": "POST", "url": url, "body": body, **changes}


def chat_line(id, content="KEY-PLAIN", **fields):
    return line(id, {"messages": [{"role": "user", "content": content}], **fields})


def jsonl(rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def upload(client, rows, name="rows.jsonl", **options):
    return client.files.create(file=(name, rows if isinstance(rows, bytes) else jsonl(rows)), purpose="batch", **options)


def create(client, rows, endpoint=CHAT, **options):
    return client.batches.create(input_file_id=upload(client, rows).id, endpoint=endpoint, completion_window="24h",
                                 **options)


def ended(server, client, id, timeout=60):
    def look():
        batch = client.batches.retrieve(id)
        return batch if batch.status in ENDED else None
    return server.wait_for(look, f"{id} ends", timeout)


def lines(client, file):
    return [json.loads(text) for text in client.files.content(file).text.splitlines()] if file else []


def results(client, batch):
    """Of all rows by their custom_id; each is in one of the files, once."""
    good, bad = lines(client, batch.output_file_id), lines(client, batch.error_file_id)
    assert len(good) == batch.request_counts.completed and len(bad) == batch.request_counts.failed
    assert all(row["response"]["status_code"] == 200 and row["error"] is None for row in good)
    found = {row["custom_id"]: row for row in good + bad}
    assert len(found) == len(good) + len(bad) and len({row["id"] for row in good + bad}) == len(found)
    return found


def counts(batch):
    c = batch.request_counts
    return c.total, c.completed, c.failed


def test_rows_answer_as_requests_do(served):
    client = served.openai()
    rows = []
    for i in range(50):
        body = {"messages": [{"role": "user", "content": f"Row {i}."}], "seed": i, "temperature": 1.2, "max_tokens": 6}
        if i % 7 == 3:
            body["temperature"] = -1
        if i % 11 == 5:
            body["model"] = "nobody"
        rows.append(line(f"row {i} é", body))
    for id, field, value in [("s", "stream", True), ("b", "background", True), ("p", "priority", -1), ("m", "mcp", True)]:
        rows.append(chat_line(id, **{field: value}))
    batch = create(client, rows, metadata={"k": "v"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    assert batch.expires_at - batch.created_at == 24 * 3600 and batch.output_file_id is None
    done = ended(served, client, batch.id)
    bad = [i for i in range(50) if i % 7 == 3 or i % 11 == 5]
    assert done.status == "completed" and counts(done) == (54, 50 - len(bad), len(bad) + 4)
    assert done.metadata == {"k": "v"} and done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    found = results(client, done)
    tokens = 0
    for i, row in enumerate(rows):
        own = served.post(CHAT, row["body"]) if i < 50 else None
        response = found[row["custom_id"]]["response"]
        if own and own.status_code == 200:
            mine, theirs = response["body"], own.json()
            tokens += mine["usage"]["completion_tokens"]
            for both in (mine, theirs):
                both.pop("id"), both.pop("created"), both["usage"].pop("prompt_tokens_details")
            assert mine == theirs
        elif own:
            assert (response["status_code"], response["body"]) == (own.status_code, own.json())
        else:
            assert response["status_code"] == 400 and "not available" in response["body"]["error"]["message"]
    assert done.usage.output_tokens == tokens and done.usage.total_tokens == done.usage.input_tokens + tokens
    order = [row["custom_id"] for row in lines(client, done.output_file_id)]
    assert order == [row["custom_id"] for row in rows if row["custom_id"] in order]  # that of the input
    status = served.status()["batches"]
    assert status["rows_completed"] == done.request_counts.completed and status["rows_running"] == 0


def test_other_endpoints(served):
    client = served.openai()
    fields = {"seed": 4, "temperature": 1.1, "max_tokens": 5}
    batch = create(client, [line("a", {"prompt": ["One", "Two"], **fields}, TEXT)], TEXT)
    done = ended(served, client, batch.id)
    own = served.complete(["One", "Two"], **fields)
    assert results(client, done)["a"]["response"]["body"]["choices"] == own["choices"]
    fields = {"input": "Hello", "max_output_tokens": 5, "seed": 4, "temperature": 1.1}
    kept = {"previous_response_id": "resp_1", "input": "more"}
    batch = create(client, [line("a", fields, RESPONSES), line("b", {**fields, "store": True}, RESPONSES),
                            line("c", kept, RESPONSES),
                            line("d", {"input": [{"type": "item_reference", "id": "msg_1"}]}, RESPONSES)], RESPONSES)
    done = ended(served, client, batch.id)
    found = results(client, done)
    mine, theirs = found["a"]["response"]["body"], served.ok(RESPONSES, {**fields, "store": False})
    assert mine["output"][0]["content"] == theirs["output"][0]["content"] and mine["store"] is False
    for id, name in (("b", "store"), ("c", "previous_response_id"), ("d", "input")):
        error = found[id]["response"]["body"]["error"]
        assert (error["param"], error["code"]) == (name, "unsupported_value")
    for endpoint in ("/v1/embeddings", "/v1/images/generations", "/health"):
        with pytest.raises(openai.BadRequestError, match="endpoint"):
            client.batches.create(input_file_id=batch.input_file_id, endpoint=endpoint, completion_window="24h")


def test_files(served):
    client = served.openai()
    a = upload(client, [chat_line("a")], "a é\".jsonl", expires_after={"anchor": "created_at", "seconds": 7200})
    b = upload(client, b"", "empty")
    assert (a.object, a.purpose, a.status, a.filename, a.bytes) == (
        "file", "batch", "processed", "a é\".jsonl", len(jsonl([chat_line("a")])))
    assert a.expires_at - a.created_at == 7200 and b.expires_at - b.created_at == 30 * 24 * 3600 and b.bytes == 0
    assert client.files.content(a.id).content == jsonl([chat_line("a")]) and client.files.content(b.id).content == b""
    assert client.files.retrieve(a.id) == a
    listed = [file.id for file in client.files.list(limit=1, order="asc")]  # the client asks for page after page
    assert listed[-2:] == [a.id, b.id] and [f.id for f in client.files.list()] == listed[::-1]
    assert {f.purpose for f in client.files.list(purpose="batch_output")} <= {"batch_output"}
    assert client.files.delete(b.id).deleted
    for gone in (lambda: client.files.retrieve(b.id), lambda: client.files.content(b.id), lambda: client.files.delete(b.id)):
        with pytest.raises(openai.NotFoundError):
            gone()
    with pytest.raises(openai.BadRequestError, match="batch"):
        client.files.create(file=b"x", purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="3600"):
        upload(client, b"x", expires_after={"anchor": "created_at", "seconds": 5})
    for form, status, word in [({"data": {"purpose": "batch"}, "files": {"other": b"x"}}, 400, "file"),
                               ({"files": {"file": b"x"}}, 400, "purpose"),
                               ({"json": {}}, 415, "multipart/form-data"),
                               ({"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400,
                                "last boundary")]:
        reply = served.http.post("/v1/files", **form)
        assert reply.status_code == status and word in reply.json()["error"]["message"], reply.text
    assert client.files.list(limit=10000).data[0].id == a.id  # nothing is left of what was refused


def test_large_files_lie_in_no_memory(served):
    """Up and down, in the gateway's memory only a few pieces at a time; and the limits of one, and of all."""
    client = served.openai()
    size = 20 << 20
    served.resident_at_rest()
    peak = [0]

    def pieces():
        for i in range(size >> 16):
            yield bytes([i % 251]) * (1 << 16)
            if i % 32 == 0:
                peak[0] = max(peak[0], served.status()["memory"]["gateway_resident"])

    def post(body):
        head, tail = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n', b"\r\n"
        def parts():
            yield head % b"file"
            yield from body
            yield tail + head % b"purpose" + b"batch" + tail + b"--b--"
        return served.http.post("/v1/files", content=parts(), headers={"content-type": "multipart/form-data; boundary=b"})

    before = served.status()["memory"]["gateway_resident"]
    reply = post(pieces())
    assert reply.status_code == 200, reply.text
    file = reply.json()
    assert file["bytes"] == size and peak[0] - before < 12 << 20
    with served.http.stream("GET", f"/v1/files/{file['id']}/content") as answer:
        n = 0
        for i, piece in enumerate(answer.iter_bytes(1 << 16)):
            assert piece == bytes([i % 251]) * (1 << 16)
            n += len(piece)
    assert n == size
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                    b"Content-Length: %d\r\n\r\n" % (25 << 20))
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
    try:
        reply = post(pieces())  # 40 MiB of all, less what there was
        assert reply.status_code == 413 and "--files-max-mb" in reply.json()["error"]["message"]
    except httpx.TransportError:  # it is refused while it is sent
        pass
    assert client.files.delete(file["id"]).deleted
    assert client.batches.list(limit=1).data  # and nothing of this has harmed anybody


def test_lines_that_are_wrong(served):
    client = served.openai()
    rows = [chat_line("a"), "{", "[1]", chat_line("a"), line("b", {}, TEXT), line("c", {}, method="GET"),
            line("d", "x"), line("", {}), {"custom_id": "e"}, "", line("x" * 513, {}), line(5, {})]
    batch = ended(served, client, create(client, rows).id)
    assert batch.status == "failed" and batch.failed_at and counts(batch) == (0, 0, 0)
    assert batch.output_file_id is None and batch.error_file_id is None
    assert [(e.line, e.code, e.param) for e in batch.errors.data] == [
        (2, "invalid_json_line", None), (3, "invalid_json_line", None), (4, "duplicate_custom_id", "custom_id"),
        (5, "mismatched_url", "url"), (6, "invalid_method", "method"), (7, "invalid_type", "body"),
        (8, "invalid_custom_id", "custom_id"), (9, "missing_required_parameter", "method"),
        (11, "invalid_custom_id", "custom_id"), (12, "invalid_type", "custom_id")]
    for rows, code in ((b"\n\n", "empty_file"), ([chat_line(str(i)) for i in range(101)], "too_many_requests")):
        batch = ended(served, client, create(client, rows).id)
        assert [e.code for e in batch.errors.data] == [code]
    file = upload(client, [chat_line("a")])
    for change, word in [({"completion_window": "1d"}, "completion_window"), ({"input_file_id": "file-none"}, "file-none"),
                         ({"metadata": {"k": 5}}, "metadata"), ({"endpoint": None}, "endpoint"),
                         ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after")]:
        reply = served.post("/v1/batches", {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **change})
        assert reply.status_code in (400, 404) and word in reply.text, reply.text
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_none")


def test_cancel_and_deletion(batching):
    with batching("--max-sequences", 4) as server:
        client = server.openai()
        batch = create(client, [chat_line(str(i), "KEY-SLOW" if i else "KEY-PLAIN", max_tokens=2000) for i in range(20)])
        server.wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1, "a row is done")
        assert len(server.model_status()["requests"]) == 2  # half of the sequences
        with pytest.raises(openai.BadRequestError, match=batch.id):
            client.files.delete(batch.input_file_id)
        cancelled = client.batches.cancel(batch.id)
        assert cancelled.status in ("cancelling", "cancelled") and cancelled.cancelling_at
        done = ended(server, client, batch.id)
        assert done.status == "cancelled" and counts(done) == (20, 1, 0) and done.cancelled_at
        assert list(results(client, done)) == ["0"]
        server.wait_idle()
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            client.batches.cancel(batch.id)
        assert client.files.delete(batch.input_file_id).deleted and client.files.delete(done.output_file_id).deleted
        assert [b.id for b in client.batches.list()] == [batch.id]


def test_others_go_first(batching):
    """However many rows wait: a request is begun at once, in the place of rows where there is no other, and the rows
    that gave way answer all the same."""
    with batching("--max-sequences", 2, "--max-waiting", 1, "--batch-max-running", 2) as server:
        client = server.openai()
        rows = [chat_line(str(i), "KEY-SLOW", max_tokens=150) for i in range(6)]
        batch = create(client, rows)
        server.wait_for(lambda: server.stats()["running"] == 2, "rows run")
        preempted = server.stats()["preemptions"]
        # Two sequences and one that waits: rows count for neither, or the third would be refused.
        answers = together([lambda: server.chat("KEY-SLOW", max_tokens=5)] * 3)
        assert all(answer["usage"]["completion_tokens"] == 5 for answer in answers)
        assert client.batches.retrieve(batch.id).request_counts.completed == 0  # those that ran have not ended before
        assert server.stats()["preemptions"] >= preempted + 2
        assert metric(server.metrics(), "tandem_batch_rows_running") >= 1
        done = ended(server, client, batch.id)
        bodies = [row["response"]["body"]["choices"][0]["message"]["content"] for row in results(client, done).values()]
        assert counts(done) == (6, 6, 0) and len(set(bodies)) == 1
        values = server.metrics()
        assert metric(values, "tandem_batch_rows_total", outcome="completed") == 6
        assert metric(values, "tandem_batch_rows_running") == 0


def test_kill_and_restart(batching, tmp_path):
    """kill -9 of the gateway, then a SIGTERM, in mid-batch: no row is lost, none is there twice, none that was saved is
    run again."""
    rows = [chat_line(f"row {i}", "KEY-PACED", max_tokens=10 + i % 7) for i in range(60)]
    options = "--max-sequences", 8
    with batching(*options) as server:
        batch = create(server.openai(), rows)
        server.wait_for(lambda: server.openai().batches.retrieve(batch.id).request_counts.completed >= 10, "some are done")
        server.process.kill()
        server.expect_exit(-signal.SIGKILL)
    saved = saved_rows(tmp_path)
    assert 10 <= len(saved) < 60
    with batching(*options) as server:
        client = server.openai()
        server.wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed >= len(saved) + 10, "it goes on")
        server.stop()
    more = saved_rows(tmp_path)
    assert saved.items() <= more.items() and len(more) < 60
    with batching(*options) as server:
        client = server.openai()
        done = ended(server, client, batch.id)
        assert done.status == "completed" and counts(done) == (60, 60, 0)
        found = results(client, done)
        assert set(found) == {row["custom_id"] for row in rows}
        for row in rows:
            assert found[row["custom_id"]]["response"]["body"]["usage"]["completion_tokens"] == row["body"]["max_tokens"]
        assert metric(server.metrics(), "tandem_batch_rows_total", outcome="completed") == 60 - len(more)
    assert more.items() <= saved_rows(tmp_path).items()


def saved_rows(tmp_path):
    with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
        return dict(db.execute("SELECT at, data FROM pieces JOIN files ON file = files.row WHERE purpose = 'batch_output'"))


def test_keys_see_only_theirs(batching, tmp_path):
    keys = tmp_path / "keys.json"
    alice, bob = (f"sk-{name}-0123456789abcdef" for name in ("alice", "bob"))
    keys.write_text(json.dumps([{"name": "alice", "key": alice}, {"name": "bob", "key": bob}]))
    keys.chmod(0o600)
    with batching("--api-keys", keys, api_key=alice) as server:
        mine, other = server.openai(), server.openai(api_key=bob)
        batch = create(mine, [chat_line("a")])
        done = ended(server, mine, batch.id)
        assert len(results(mine, done)) == 1
        assert not other.files.list().data and not other.batches.list().data
        for call in (lambda: other.files.content(done.output_file_id), lambda: other.files.delete(batch.input_file_id),
                     lambda: other.batches.retrieve(batch.id), lambda: other.batches.cancel(batch.id),
                     lambda: other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")):
            with pytest.raises(openai.NotFoundError):
                call()
        reply = httpx.post(f"{server.url}/v1/files", files={"file": b"x" * 100000}, data={"purpose": "batch"})
        assert reply.status_code == 401


def test_without_a_journal(scripted, tiny_path):
    for method, path in (("GET", "/v1/files"), ("GET", "/v1/batches"), ("GET", "/v1/files/file-1/content"), ("POST", "/v1/files"),
                         ("POST", "/v1/batches/b/cancel"), ("DELETE", "/v1/files/file-1")):
        reply = scripted.http.request(method, path)
        assert reply.status_code == 501 and "--journal" in reply.json()["error"]["message"], reply.text
    reply = scripted.post("/v1/batches", {"input_file_id": "f", "endpoint": CHAT, "completion_window": "24h"})
    assert reply.status_code == 501 and "--journal" in reply.json()["error"]["message"]
    with failing_server(tiny_path, "--batch-max-rows", 5) as (status, text):
        assert status == 2 and "--journal" in text


def test_clients_that_leave_in_mid_upload(batching, tmp_path):
    """What they have sent goes; and there may be so many of them at once."""
    def incomplete():
        with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
            return db.execute("SELECT count(*) FROM files WHERE NOT complete").fetchone()[0]

    with batching() as server:
        head = (b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 2000000\r\n\r\n"
                b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n')
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
        for client in clients:
            client.sendall(head + b"x" * 600_000 if client is clients[0] else head)
        server.wait_for(incomplete, "a file is begun")

        def refused():
            return server.http.post("/v1/files", files={"file": b"x"}, data={"purpose": "batch"}).status_code == 429

        server.wait_for(refused, "no more are taken")
        for client in clients:
            client.close()
        server.wait_for(lambda: not incomplete() and not refused(), "they are forgotten")
        assert server.status()["batches"]["files"] <= 1


def test_no_room_for_outputs(batching):
    with batching("--files-max-mb", 1) as server:
        client = server.openai()
        rows = jsonl([chat_line("a")])
        input, filler = upload(client, rows), upload(client, b"x" * ((1 << 20) - len(rows)))
        batch = client.batches.create(input_file_id=input.id, endpoint=CHAT, completion_window="24h")
        server.wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress", "it is checked")
        server.wait_for(lambda: "--files-max-mb" in (server.status()["batches"]["rows_wait_because"] or ""), "its row waits")
        assert counts(client.batches.retrieve(batch.id)) == (1, 0, 0)
        client.files.delete(filler.id)
        assert counts(ended(server, client, batch.id)) == (1, 1, 0)


def test_a_line_that_cannot_be_read_again(batching, tmp_path):
    """It fails its batch: a row without a result would be missed by nobody."""
    pressure = tmp_path / "pressure"
    pressure.write_text("warn")
    with batching("--pressure-file", pressure) as server:
        client = server.openai()
        server.wait_for(lambda: server.status()["memory"]["pressure"] == "warn", "memory is short")
        batch = create(client, [chat_line("a"), chat_line("b", "word " * 1000)])
        server.wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress", "it is checked")
    with batching("--max-body", 2048) as server:
        done = ended(server, server.openai(), batch.id)
        assert done.status == "failed" and counts(done) == (2, 0, 0)
        assert [e.code for e in done.errors.data] == ["unreadable_line"] and "Line 2 " in done.errors.data[0].message


def test_short_memory_and_time(batching, tmp_path):
    """No row is begun while memory is short; what is not done when the window is over is told so, once."""
    pressure = tmp_path / "pressure"
    pressure.write_text("warn")
    with batching("--pressure-file", pressure, "--batch-max-running", 2) as server:
        client = server.openai()
        server.wait_for(lambda: server.status()["memory"]["pressure"] == "warn", "memory is short")
        batch = create(client, [chat_line(str(i)) for i in range(3)])
        server.wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress", "it is checked")
        server.chat("KEY-PLAIN")
        assert server.status()["batches"]["rows_wait_because"] == "memory is short"
        assert counts(client.batches.retrieve(batch.id)) == (3, 0, 0)
        pressure.write_text("none")
        assert counts(ended(server, client, batch.id)) == (3, 3, 0)
        rows = [chat_line(str(i), "KEY-SLOW" if i > 1 else "KEY-PLAIN", max_tokens=2000) for i in range(30)]
        batch = create(client, rows, extra_body={"completion_window": "1h"})
        assert batch.completion_window == "1h" and batch.expires_at - batch.created_at == 3600
        server.wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed == 2, "two rows are done")
        server.process.kill()
        server.expect_exit(-signal.SIGKILL)
    with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
        db.execute("UPDATE batches SET expires = 7 WHERE ended = 0")
    with batching("--batch-max-running", 2) as server:
        client = server.openai()
        done = ended(server, client, batch.id)
        assert done.status == "expired" and done.expired_at and counts(done) == (30, 2, 28)
        found = results(client, done)
        assert set(found) == {row["custom_id"] for row in rows}
        assert all(found[str(i)]["error"]["code"] == "batch_expired" for i in range(2, 30))
        assert "batch expires" in server.log() and "batch goes on" in server.log()
