"""An OpenTelemetry collector for tests: takes OTLP over HTTP in JSON, checks its shape strictly, keeps the spans.

    with Collector() as collector:
        ... collector.url, collector.spans, collector.requests (headers of each)
        collector.statuses = [503, 503]     the next answers; then 200
        collector.delay_s = 2               before each answer
"""
import contextlib
import http.server
import json
import re
import threading
import time

ATTRIBUTE_TYPES = {"stringValue": str, "boolValue": bool, "doubleValue": (int, float)}


def check_value(value):
    assert len(value) == 1, value
    (kind, content), = value.items()
    if kind == "intValue":  # 64-bit integers are strings
        assert re.fullmatch(r"-?\d{1,19}", content), value
        return int(content)
    if kind == "arrayValue":
        return [check_value(item) for item in content["values"]]
    assert isinstance(content, ATTRIBUTE_TYPES[kind]), value
    return content


def check_attributes(attributes):
    parsed = {}
    for attribute in attributes:
        assert set(attribute) == {"key", "value"} and attribute["key"] not in parsed, attribute
        parsed[attribute["key"]] = check_value(attribute["value"])
    return parsed


def check_span(span):
    known = {"traceId", "spanId", "parentSpanId", "traceState", "flags", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
             "attributes", "status"}
    assert set(span) <= known and known - set(span) <= {"parentSpanId", "traceState"}, span
    assert re.fullmatch(r"[0-9a-f]{32}", span["traceId"]) and int(span["traceId"], 16)
    assert re.fullmatch(r"[0-9a-f]{16}", span["spanId"]) and int(span["spanId"], 16)
    assert re.fullmatch(r"[0-9a-f]{16}", span.get("parentSpanId", "0" * 16))
    assert span["kind"] in (1, 2) and isinstance(span["flags"], int) and span["flags"] & 1
    assert re.fullmatch(r"\d{19}", span["startTimeUnixNano"]) and re.fullmatch(r"\d{19}", span["endTimeUnixNano"])
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]), span
    assert abs(int(span["startTimeUnixNano"]) / 1e9 - time.time()) < 600
    assert span["status"] in ({}, {"code": 2})
    return {**span, "attributes": check_attributes(span["attributes"])}


def check_request(body):
    """The spans of an ExportTraceServiceRequest, with attributes as a dict and the resource's beside them."""
    assert set(body) == {"resourceSpans"}
    found = []
    for resource in body["resourceSpans"]:
        assert set(resource) == {"resource", "scopeSpans"}
        of_resource = check_attributes(resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            assert set(scope) == {"scope", "spans"} and scope["scope"]["name"] == "tandem"
            found += [{**check_span(span), "resource": of_resource} for span in scope["spans"]]
    return found


class Collector:
    def __init__(self, port=0):
        self.spans, self.requests, self.problems, self.statuses = [], [], [], []
        self.delay_s, self.headers = 0, {}
        self.released = threading.Event()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, dict(self.headers)))
                collector.released.wait(collector.delay_s)
                status = collector.statuses.pop(0) if collector.statuses else 200
                try:
                    assert self.headers["Content-Type"] == "application/json"
                    spans = check_request(json.loads(body))
                    if status == 200:
                        collector.spans += spans
                except Exception as problem:  # shown by the test, not by this thread
                    collector.problems.append(repr(problem))
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in collector.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(20)
        assert kind or not self.problems, self.problems

    def trace(self, trace_id):
        assert not self.problems, self.problems
        return [span for span in self.spans if span["traceId"] == trace_id]
