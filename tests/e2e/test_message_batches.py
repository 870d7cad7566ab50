"""Anthropic's message batches: /v1/messages/batches with the official client, through cancels, kill -9 and restarts."""
import json
import signal
import sqlite3

import anthropic
import httpx
import pytest

from harness import metric

pytestmark = pytest.mark.cpu_only("answers are scripted")

ROUTE = "/v1/messages/batches"


@pytest.fixture
def batching(new_scripted, tmp_path):
    """Scripted answers, and a journal."""
    def make(*options, **arguments):
        return new_scripted("--journal", tmp_path / "journal", *options, **arguments)
    return make


def request(id, content="KEY-PLAIN", **fields):
    params = {"model": "default", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}
    return {"custom_id": id, "params": {name: value for name, value in params.items() if value is not None}}


def ended(server, client, id, timeout=60):
    def look():
        batch = client.messages.batches.retrieve(id)
        return batch if batch.processing_status == "ended" else None
    return server.wait_for(look, f"{id} ends", timeout)


def counts(batch):
    c = batch.request_counts
    return c.processing, c.succeeded, c.errored, c.canceled, c.expired


def results(client, batch):
    """Of all requests by their custom_id; each is there once, in the order of the input."""
    found = list(client.messages.batches.results(batch.id))
    by_id = {row.custom_id: row.result for row in found}
    assert len(by_id) == len(found) == sum(counts(batch))
    for type, n in zip(("succeeded", "errored", "canceled", "expired"), counts(batch)[1:]):
        assert sum(result.type == type for result in by_id.values()) == n
    return by_id


def in_journal(tmp_path, query):
    with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
        return db.execute(query).fetchall()


def test_requests_answer_as_messages_do(batching, tmp_path):
    with batching("--batch-max-rows", 8) as server:
        client = server.anthropic()
        batches = client.messages.batches
        batch = batches.create(requests=[
            request("a-1"), request("B_2", max_tokens=3), request("bad", temperature=-1), request("s", stream=True),
            request("nobody", model="nobody"), request("none", messages=None)])
        assert (batch.type, batch.processing_status, counts(batch)) == ("message_batch", "in_progress", (6, 0, 0, 0, 0))
        assert batch.id.startswith("msgbatch_") and (batch.expires_at - batch.created_at).total_seconds() == 24 * 3600
        assert batch.ended_at is batch.results_url is batch.cancel_initiated_at is batch.archived_at is None
        done = ended(server, client, batch.id)
        assert counts(done) == (0, 2, 4, 0, 0) and done.ended_at >= done.created_at and done.cancel_initiated_at is None
        assert done.results_url == f"{server.url}{ROUTE}/{batch.id}/results"
        found = results(client, done)
        assert list(found) == ["a-1", "B_2", "bad", "s", "nobody", "none"]
        for id, fields in (("a-1", {}), ("B_2", {"max_tokens": 3})):
            own = client.messages.create(**request("x", **fields)["params"])
            mine = found[id].message
            assert mine.content == own.content and mine.stop_reason == own.stop_reason and mine.type == "message"
            assert mine.usage.output_tokens == own.usage.output_tokens
        for id, type, word in (("bad", "invalid_request_error", "temperature"), ("s", "invalid_request_error", "stream"),
                               ("nobody", "not_found_error", "nobody"), ("none", "invalid_request_error", "messages")):
            error = found[id].error
            assert (error.type, error.error.type) == ("error", type) and word in error.error.message
            assert error.request_id.startswith("req_")
        reply = httpx.get(done.results_url)
        assert reply.headers["content-type"] == "application/x-jsonl" and len(reply.text.splitlines()) == 6
        assert metric(server.metrics(), "tandem_batch_rows_total", outcome="completed") == 2

        # OpenAI's routes do not show it, nor its files; and the other way round.
        assert not server.openai().batches.list().data and not server.openai().files.list().data
        for method, path in (("GET", f"/v1/batches/{batch.id}"), ("GET", f"{ROUTE}/batch_1"), ("POST", f"/v1/batches/{batch.id}/cancel"),
                             ("GET", f"{ROUTE}/msgbatch_1/results"), ("DELETE", f"{ROUTE}/msgbatch_1")):
            assert server.http.request(method, path).status_code == 404, path
        assert in_journal(tmp_path, "SELECT count(*) FROM files") == [(1,)]  # the input has gone
        with pytest.raises(anthropic.BadRequestError, match="cannot be cancelled"):
            batches.cancel(batch.id)
        assert batches.delete(batch.id).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            batches.retrieve(batch.id)
        assert in_journal(tmp_path, "SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM pieces)") == [(0,)]


def test_what_is_refused(batching):
    with batching("--batch-max-rows", 4, "--max-body", 4096, "--files-max-mb", 1) as server:
        for requests, where, word in [
                (None, "requests", "Missing"), ([], "requests", "1 to 4"), ({}, "requests", "array"),
                ([request(str(i)) for i in range(5)], "requests", "--batch-max-rows"),
                ([5], "requests.0", "object"), ([{"params": {}}], "requests.0.custom_id", "Missing"),
                ([request("a"), {"custom_id": "b"}], "requests.1.params", "Missing"),
                ([{"custom_id": "a", "params": []}], "requests.0.params", "object"),
                ([request("")], "requests.0.custom_id", "1 to 64"), ([request("é")], "requests.0.custom_id", "letters"),
                ([request("x" * 65)], "requests.0.custom_id", "1 to 64"),
                ([request("a"), request("b"), request("a")], "requests.2.custom_id", "requests.0")]:
            reply = server.post(ROUTE, {} if requests is None else {"requests": requests})
            body = reply.json()
            assert reply.status_code == 400 and (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
            assert where in body["error"]["message"] and word in body["error"]["message"], body
        body = json.dumps({"requests": [request("a", "x" * 3972)]}, separators=(",", ":"))
        assert 4000 < len(body) <= 4096  # its line is longer than it
        reply = server.http.post(ROUTE, content=body, headers={"content-type": "application/json"})
        assert reply.status_code == 413 and "--max-body" in reply.json()["error"]["message"], reply.text
        assert not server.anthropic().messages.batches.list().data
        for query in ("limit=0", "limit=1001", "after=x", "after_id=a&before_id=b"):
            assert server.http.get(f"{ROUTE}?{query}").status_code == 400


def test_without_a_journal(scripted):
    for method, path in (("GET", ROUTE), ("GET", f"{ROUTE}/msgbatch_1"), ("POST", f"{ROUTE}/msgbatch_1/cancel"),
                         ("GET", f"{ROUTE}/msgbatch_1/results"), ("DELETE", f"{ROUTE}/msgbatch_1")):
        reply = scripted.http.request(method, path)
        assert reply.status_code == 501 and "--journal" in reply.json()["error"]["message"], reply.text
    assert scripted.post(ROUTE, {"requests": [request("a")]}).status_code == 501


def test_lists_and_keys(batching, tmp_path):
    keys = tmp_path / "keys.json"
    alice, bob = (f"sk-{name}-0123456789abcdef" for name in ("alice", "bob"))
    keys.write_text(json.dumps([{"name": "alice", "key": alice}, {"name": "bob", "key": bob}]))
    keys.chmod(0o600)
    with batching("--api-keys", keys, api_key=alice) as server:
        client, other = server.anthropic(), server.anthropic(api_key=bob)
        ids = [client.messages.batches.create(requests=[request("a")]).id for _ in range(5)][::-1]
        page = client.messages.batches.list(limit=2)
        assert [b.id for b in page.data] == ids[:2] and page.has_more and (page.first_id, page.last_id) == tuple(ids[:2])
        assert [b.id for b in client.messages.batches.list(limit=2)] == ids  # the client asks for page after page
        before = client.messages.batches.list(limit=2, before_id=ids[4])
        assert [b.id for b in before.data] == ids[2:4] and before.has_more
        assert [b.id for b in before.get_next_page().data] == ids[:2]
        last = client.messages.batches.list(after_id=ids[3])
        assert [b.id for b in last.data] == ids[4:] and not last.has_more
        done = ended(server, client, ids[0])
        assert len(results(client, done)) == 1 and not other.messages.batches.list().data
        for call in (other.messages.batches.retrieve, other.messages.batches.cancel, other.messages.batches.delete):
            with pytest.raises(anthropic.NotFoundError):
                call(ids[0])
        reply = httpx.get(done.results_url, headers={"x-api-key": bob})
        assert reply.status_code == 404 and reply.json()["type"] == "error"


def test_cancel_kill_and_restart(batching, tmp_path):
    """Rows that were done before kill -9 are not run again; a cancel holds through the next one; and those that are left
    are told so."""
    options = "--max-sequences", 4
    with batching(*options) as server:
        client = server.anthropic()
        rows = [request(f"r{i}", "KEY-PACED", max_tokens=10 + i % 7) for i in range(40)]
        rows += [request(f"slow{i}", "KEY-SLOW", max_tokens=2000) for i in range(400)]
        batch = client.messages.batches.create(requests=rows)
        with pytest.raises(anthropic.BadRequestError, match="has not ended"):
            client.messages.batches.delete(batch.id)
        reply = server.http.get(f"{ROUTE}/{batch.id}/results")
        assert reply.status_code == 400 and "not ended" in reply.json()["error"]["message"]
        server.wait_for(lambda: server.status()["batches"]["rows_completed"] >= 10, "some are done")
        assert counts(client.messages.batches.retrieve(batch.id)) == (440, 0, 0, 0, 0)
        server.process.kill()
        server.expect_exit(-signal.SIGKILL)
    saved = dict(in_journal(tmp_path, "SELECT at, data FROM pieces JOIN files ON file = files.row WHERE purpose = 'batch_output'"))
    assert 10 <= len(saved) <= 40
    with batching(*options) as server:
        client = server.anthropic()
        server.wait_for(lambda: server.status()["batches"]["rows_completed"] >= 40 - len(saved), "the quick ones are done")
        canceled = client.messages.batches.cancel(batch.id)
        assert canceled.processing_status in ("canceling", "ended") and canceled.cancel_initiated_at
        server.process.kill()
        server.expect_exit(-signal.SIGKILL)
    with batching(*options) as server:
        client = server.anthropic()
        done = ended(server, client, batch.id)
        assert counts(done) == (0, 40, 0, 400, 0) and done.cancel_initiated_at == canceled.cancel_initiated_at
        found = results(client, done)
        assert list(found) == [row["custom_id"] for row in rows]
        for row in rows[:40]:
            assert found[row["custom_id"]].message.usage.output_tokens == row["params"]["max_tokens"]
    after = dict(in_journal(tmp_path, "SELECT at, data FROM pieces JOIN files ON file = files.row WHERE purpose = 'batch_output'"))
    assert saved.items() <= after.items()


def test_time_and_others(batching, tmp_path):
    """Those that are not done after 24 hours have expired; and other requests go first meanwhile."""
    with batching("--max-sequences", 2, "--max-waiting", 1) as server:
        client = server.anthropic()
        batch = client.messages.batches.create(
            requests=[request(str(i), "KEY-SLOW" if i else "KEY-PLAIN", max_tokens=2000) for i in range(5)])
        server.wait_for(lambda: server.status()["batches"]["rows_completed"] == 1, "one is done")
        server.wait_for(lambda: server.stats()["running"] >= 1, "another runs")
        assert server.chat("KEY-PLAIN")["choices"][0]["finish_reason"] == "stop"
        server.process.kill()
        server.expect_exit(-signal.SIGKILL)
    with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
        db.execute("UPDATE batches SET expires = 7 WHERE ended = 0")
    with batching("--max-sequences", 2) as server:
        client = server.anthropic()
        done = ended(server, client, batch.id)
        assert counts(done) == (0, 1, 0, 0, 4)
        assert [result.type for result in results(client, done).values()] == ["succeeded"] + 4 * ["expired"]
