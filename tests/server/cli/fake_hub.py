"""A hub on this machine that speaks what huggingface_hub asks of one."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 1000


class FakeHub(ThreadingHTTPServer):
    """Serves `org/model` with these files.

    Attributes:
        breaks_after: Bytes of a large file after which its connection is cut, once; then all
            are at once, until this is None.
        refusal: Code and error name with which everything is refused; None serves.
        lies: Names of files that are served with other bytes than are stated.
        ranges: The `Range` headers that came.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.breaks_after: int | None = None
        self.refusal: tuple[int, str] | None = None
        self.lies: set[str] = set()
        self.ranges: list[str] = []
        self.fetched: list[str] = []
        self.tokens: set[str | None] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stated(self, name: str) -> dict[str, Any]:
        """What the tree says of a file."""
        data = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        fact: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
        if len(data) >= _LARGE:
            sha256 = hashlib.sha256(data).hexdigest()
            fact["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
        return fact


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, *, body: bool) -> None:
        hub = self.server
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refusal is not None:
            code, name = hub.refusal
            self._answer(code, b"{}", body, **{"X-Error-Code": name} if name else {})
            return
        path = self.path.partition("?")[0]
        if re.fullmatch(r"/api/models/org/model(/revision/[^/]+)?", path):
            told = {"id": "org/model", "modelId": "org/model", "sha": COMMIT}
            told["siblings"] = [hub.stated(name) for name in hub.files]  # type: ignore[assignment]
            self._answer(200, json.dumps(told).encode(), body)
            return
        found = re.fullmatch(r"/org/model/resolve/[^/]+/(.*)", path)
        if found is None or found[1] not in hub.files:
            self._answer(404, b"{}", body, **{"X-Error-Code": "RepoNotFound"})
            return
        self._file(found[1], body)

    def _file(self, name: str, body: bool) -> None:
        hub, stated = self.server, self.server.stated(name)
        data = hub.files[name]
        if name in hub.lies:
            data = bytes(len(data))
        etag = stated["lfs"]["sha256"] if "lfs" in stated else stated["blobId"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        code, start = 200, 0
        asked = self.headers.get("Range", "")
        if body:
            hub.fetched.append(name)
        if body and asked:
            hub.ranges.append(asked)
            start = int(re.fullmatch(r"bytes=(\d+)-.*", asked)[1])  # type: ignore[index]
            code = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = hub.breaks_after if len(data) >= _LARGE and body else None
        if cut:
            hub.breaks_after = 0
        self._answer(code, data[start:], body, cut=cut, **headers)

    def _answer(
        self, code: int, data: bytes, body: bool, *, cut: int | None = None, **headers: str
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True
