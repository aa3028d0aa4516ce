"""A bucket on loopback: as much of Google Cloud Storage's JSON API as its clients here ask for.

Objects live in memory, have generations, and are written, read and removed on the conditions that a
request names. `python -m tests.bucket_server PORT BUCKET` runs one by itself.
"""

import base64
import datetime
import email
import functools
import hashlib
import itertools
import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

_PATH = re.compile(
    r"(?:/(?P<kind>upload|download))?/storage/v1/b/(?P<bucket>[^/]+)"
    r"(?:/o(?:/(?P<name>[^/]+)(?P<move>/moveTo/o/(?P<target>[^/]+))?)?)?/?"
)


@dataclass(frozen=True)
class Stored:
    """An object: its bytes, and the number it has until it is written again."""

    data: bytes
    generation: int


class Refused(Exception):
    """What a request is answered where it is not done."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class BucketServer:
    """Serves one bucket from a thread.

    Attributes:
      objects: name -> object, which tests may look at and change.
      refuse: (method, name) -> status with which to refuse it, 0 to serve it.
    """

    def __init__(self, bucket: str = "bucket", port: int = 0) -> None:
        self.bucket = bucket
        self.objects: dict[str, Stored] = {}
        self.refuse: Callable[[str, str], int] = lambda method, name: 0
        self._generations, self._lock = itertools.count(1), threading.Lock()
        self._uploads: dict[str, tuple[str, dict[str, str], bytes]] = {}
        handler = type("Handler", (_Handler,), {"bucket_server": self})
        self._server = _Server(("127.0.0.1", port), handler)
        # How often it looks whether it is to end.
        serve = functools.partial(self._server.serve_forever, poll_interval=0.02)
        self._thread = threading.Thread(target=serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What tells the clients of this process, or of another, to come here."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "TENSORSTORE_GCS_HTTP_URL": self.address,
            # Or they look for credentials, and for a machine of Google's around them.
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "NO_GCE_CHECK": "true",
        }

    def content(self, name: str) -> bytes:
        return self.objects[name].data

    def put(self, name: str, data: bytes, query: dict[str, str]) -> Stored:
        with self._lock:
            self._check(name, query)
            stored = self.objects[name] = Stored(data, next(self._generations))
            return stored

    def get(self, name: str, query: dict[str, str]) -> Stored:
        with self._lock:
            self._check(name, query)
            if name not in self.objects:
                raise Refused(404, f"No such object: {self.bucket}/{name}")
            return self.objects[name]

    def remove(self, name: str, query: dict[str, str]) -> None:
        self.get(name, query)
        with self._lock:
            self._check(name, query)
            del self.objects[name]

    def list(self, query: dict[str, str]) -> dict:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        with self._lock:
            for name, stored in sorted(self.objects.items()):
                if not name.startswith(prefix):
                    continue
                rest = name.removeprefix(prefix)
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
                else:
                    items.append(self.describe(name, stored))
        most = int(query.get("maxResults", 1000))
        return {"kind": "storage#objects", "items": items[:most], "prefixes": sorted(prefixes)}

    def describe(self, name: str, stored: Stored) -> dict:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "kind": "storage#object",
            "bucket": self.bucket,
            "name": name,
            "size": str(len(stored.data)),
            "generation": str(stored.generation),
            "metageneration": "1",
            "timeCreated": now,
            "updated": now,
            "md5Hash": base64.b64encode(hashlib.md5(stored.data).digest()).decode(),
        }

    def begin(self, name: str, query: dict[str, str]) -> str:
        key = str(next(self._generations))
        self._uploads[key] = name, query, b""
        return key

    def go_on(self, key: str, data: bytes, content_range: str) -> Stored | None:
        """Adds to an upload in parts; returns the object when it is complete."""
        name, query, before = self._uploads[key]
        self._uploads[key] = name, query, before + data
        total = content_range.rpartition("/")[2]
        if total == "*" or (total and len(before + data) < int(total)):
            return None
        del self._uploads[key]
        return self.put(name, before + data, query)

    def _check(self, name: str, query: dict[str, str]) -> None:
        generation = self.objects[name].generation if name in self.objects else 0
        if int(query.get("ifGenerationMatch", generation)) != generation:
            raise Refused(412, "The condition is not met")
        if int(query.get("ifGenerationNotMatch", -1)) == generation:
            raise Refused(304, "It is as it was")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request, client_address):
        # A client asks two questions at once, and hangs up when one answer will do.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    bucket_server: BucketServer
    protocol_version = "HTTP/1.1"
    # Without it each answer waits for the client's acknowledgement of its first packet.
    disable_nagle_algorithm = True

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args):
        pass

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        try:
            match = _PATH.fullmatch(url.path)
            if match is None:
                raise Refused(501, f"{self.command} {self.path} is not known here")
            self._answer(match, dict(parse_qsl(url.query)), body)
        except Refused as refused:
            error = {"error": {"code": refused.code, "message": str(refused)}}
            self._send(refused.code, b"" if refused.code == 304 else json.dumps(error).encode())

    def _answer(self, match, query, body):
        server = self.bucket_server
        name, target = (unquote(match[part] or "") for part in ("name", "target"))
        if status := server.refuse(self.command, name or query.get("name", "")):
            raise Refused(status, "It was to be refused")
        if unquote(match["bucket"]) != server.bucket:
            raise Refused(404, "The specified bucket does not exist.")
        if match["kind"] == "upload":
            self._upload(query, body)
        elif target:
            stored = server.get(name, {})
            self._describe(target, server.put(target, stored.data, {}))
            server.remove(name, {})
        elif name and self.command == "DELETE":
            server.remove(name, query)
            self._send(204, b"")
        elif name and (query.get("alt") == "media" or match["kind"] == "download"):
            self._send_content(server.get(name, query))
        elif name:
            self._describe(name, server.get(name, query))
        elif match[0].rstrip("/").endswith("/o"):
            self._send(200, json.dumps(server.list(query)).encode())
        else:
            self._send(200, json.dumps({"kind": "storage#bucket", "name": server.bucket}).encode())

    def _upload(self, query, body):
        server = self.bucket_server
        if "upload_id" in query:
            stored = server.go_on(query["upload_id"], body, self.headers["Content-Range"] or "")
            if stored is None:
                self._send(308, b"")
            else:
                self._describe(query["name"], stored)
        elif query["uploadType"] == "media":
            self._describe(query["name"], server.put(query["name"], body, query))
        elif query["uploadType"] == "multipart":
            head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
            about = email.message_from_bytes(head + body).get_payload(0)
            name = query.get("name") or json.loads(about.get_payload())["name"]
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            # By hand: email would take the bytes for text.
            part = body.split(b"--" + boundary)[2]
            data = re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]
            self._describe(name, server.put(name, re.sub(rb"\r?\n\Z", b"", data), query))
        else:
            name = query.get("name") or json.loads(body)["name"]
            key = server.begin(name, query)
            place = f"{server.address}{urlsplit(self.path).path}?name={name}&upload_id={key}"
            self._send(200, b"{}", {"Location": place})

    def _describe(self, name, stored):
        self._send(200, json.dumps(self.bucket_server.describe(name, stored)).encode())

    def _send_content(self, stored):
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        headers = {"x-goog-generation": str(stored.generation)}
        if found is None:
            self._send(200, stored.data, headers)
            return
        size = len(stored.data)
        start = int(found[1]) if found[1] else max(0, size - int(found[2]))
        end = min(int(found[2]) + 1, size) if found[1] and found[2] else size
        if start >= size:
            raise Refused(416, "Nothing lies there")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(206, stored.data[start:end], headers)

    def _send(self, code, body, headers=None):
        self.send_response(code)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with BucketServer(sys.argv[2], int(sys.argv[1])) as server:
        print(server.address, flush=True)
        threading.Event().wait()
