"""A server that speaks as much of the Hugging Face Hub's API as clients need: information of repositories, files by
`resolve` with redirects to a storage server on another port, ranges, search; and faults to order.

    with FakeHub() as hub:
        repo = hub.add("owner/name", {"config.json": b"{}", "model.safetensors": bytes(1 << 20)})
        hub.storage.cut_after = 1000            # the next reply of the storage ends after so many bytes
        ... HF_ENDPOINT=hub.url ...
        hub.requests, hub.storage.requests      # what came: (method, path, headers, names in small letters)

Files of LFS_SIZE bytes and more lie in the storage and are named by their SHA-256, smaller ones come from the Hub itself,
named as git names them.
"""
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse

LFS_SIZE = 4096


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    """files: name -> bytes. What the Hub says of them may be overridden in `entries` (name -> the sibling's JSON)."""

    def __init__(self, name, files, commit, **more):
        self.name, self.files, self.commit = name, dict(files), commit
        self.gated = more.get("gated", False)
        self.private = more.get("private", False)
        self.revisions = {"main": commit, **more.get("revisions", {})}
        self.entries = more.get("entries", {})

    def sibling(self, name):
        if name in self.entries:
            return self.entries[name]
        data = self.files[name]
        entry = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
        if len(data) >= LFS_SIZE:
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def info(self):
        names = [*self.files, *(n for n in self.entries if n not in self.files)]
        return {"_id": "1", "id": self.name, "modelId": self.name, "sha": self.commit, "private": self.private,
                "gated": "manual" if self.gated else False, "disabled": False, "downloads": 5, "likes": 1,
                "tags": ["gguf"] if any(n.endswith(".gguf") for n in self.files) else ["safetensors"],
                "siblings": [self.sibling(n) for n in names]}


    def tree(self):
        """The same as a listing of files (/tree/REV), which huggingface_hub asks for."""
        entries = []
        for entry in self.info()["siblings"]:
            entries.append({"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"]})
            if "lfs" in entry:
                entries[-1]["lfs"] = {"oid": entry["lfs"]["sha256"], "size": entry["size"], "pointerSize": 134}
        return entries


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that hang up are what these tests are about."""


class Node:
    """One of both servers, with its faults; each is used up by the reply that it spoils."""

    def __init__(self, hub):
        self.hub = hub
        self.requests = []
        self.statuses = []       # (status, headers) to answer the next requests with; None: as usual
        self.cut_after = None    # the next file ends after so many bytes
        self.cuts = 0            # and so many files after it
        self.delay = 0           # seconds before each 64 KiB
        self.overstate = 0       # bytes that replies announce and lack
        self.spoil = None        # bytes -> bytes, of every file
        self.ignore_ranges = False
        self.server = QuietServer(("127.0.0.1", 0), type("Handler", (Handler,), {"node": self}))
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node = None

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        node = self.node
        node.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        fault = node.statuses.pop(0) if node.statuses else None
        if fault:
            self.answer(fault[0], b"spoilt", fault[1])
        elif node is node.hub.storage:
            self.send_stored()
        else:
            self.send_api()

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code):
        self.answer(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code, "X-Error-Message": code})

    # -- the Hub --

    def send_api(self):
        url = urllib.parse.urlsplit(self.path)
        hub = self.node.hub
        if url.path == "/api/models":
            words = urllib.parse.parse_qs(url.query).get("search", [""])[0].lower()
            self.answer_json([r.info() for r in hub.repos.values() if words in r.name.lower()])
            return
        found = (re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/([^/]+))?", url.path)
                 or re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path))
        if not found:
            self.refuse(404, "RepoNotFound")
            return
        name, revision, *rest = (urllib.parse.unquote(x) if x else x for x in found.groups())
        repo = hub.repos.get(name)
        if self.allowed(repo):
            commit = repo.revisions.get(revision or "main", revision if revision == repo.commit else None)
            if commit is None:
                self.refuse(404, "RevisionNotFound")
            elif rest:
                self.send_file(repo, rest[0])
            elif "/tree/" in url.path:
                self.answer_json(repo.tree())
            else:
                self.answer_json(repo.info())

    def allowed(self, repo):
        token = self.headers.get("Authorization")
        known = token == f"Bearer {self.node.hub.token}"
        if token and not known:
            self.answer(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo is None or (repo.private and not known):
            self.refuse(404 if known else 401, "RepoNotFound")
        elif repo.gated and not (known and repo.gated == "granted"):
            self.refuse(403 if known else 401, "GatedRepo")
        else:
            return True
        return False

    def send_file(self, repo, name):
        if name not in repo.files:
            self.refuse(404, "EntryNotFound")
            return
        data = repo.files[name]
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if len(data) < LFS_SIZE:
            self.send_bytes(data, {**headers, "ETag": f'"{git_sha1(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        self.node.hub.stored[digest] = data
        self.answer(302, b"", {**headers, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": len(data),
                               "Location": f"{self.node.hub.storage.url}/signed/{digest}?signature=x"})

    # -- the storage --

    def send_stored(self):
        data = self.node.hub.stored.get(self.path.split("?")[0].rpartition("/")[2])
        if data is None:
            self.answer(404, b"no such object")
        else:
            self.send_bytes(data, {"ETag": '"x"', "Accept-Ranges": "bytes"})

    def send_bytes(self, data, headers):
        node = self.node
        data = node.spoil(data) if node.spoil else data
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, body = 200, data
        if asked and not node.ignore_ranges:
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            status, body = 206, data[first:last + 1]
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        if node.cut_after is not None or node.delay or node.overstate:
            self.send_slowly(status, body, headers)
        else:
            self.answer(status, body, headers)

    def send_slowly(self, status, body, headers):
        node, cut = self.node, self.node.cut_after
        if cut is not None:
            node.cut_after = cut if node.cuts > 0 else None
            node.cuts = max(0, node.cuts - 1)
        self.send_response(status)
        for name, value in {"Content-Length": len(body) + node.overstate, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        body = body if cut is None else body[:cut]
        try:
            for at in range(0, len(body) if self.command != "HEAD" else 0, 65536):
                time.sleep(node.delay)
                self.wfile.write(body[at:at + 65536])
        except OSError:
            pass
        if cut is not None or node.overstate:
            self.close_connection = True


class FakeHub:
    def __init__(self, token="hf_test_token"):
        self.token = token
        self.repos, self.stored = {}, {}

    def __enter__(self):
        self.api, self.storage = Node(self), Node(self)
        return self

    def __exit__(self, *_):
        self.api.close()
        self.storage.close()

    @property
    def url(self):
        return self.api.url

    @property
    def requests(self):
        return self.api.requests

    def add(self, name, files, commit=None, **more):
        commit = commit or hashlib.sha1(repr((name, sorted(files))).encode()).hexdigest()
        self.repos[name] = Repo(name, files, commit, **more)
        return self.repos[name]
