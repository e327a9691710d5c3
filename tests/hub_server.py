"""A hub on this machine: serves folders `root/owner/model/...` as Hugging Face's hub serves models.

What `huggingface_hub` asks: HEAD and GET ``/owner/model/resolve/REVISION/FILE`` (with commit and hash in
its headers), and ``/api/models/owner/model/tree/REVISION`` for the names of the files.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from served import served


class Hub(ThreadingHTTPServer):
    """Every branch of its models is at one commit."""

    def __init__(self, root: Path, commit: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.commit = root, commit
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        words = path.strip("/").split("/")
        if words[:2] == ["api", "models"]:
            self._api(words[2:])
        elif len(words) > 4 and words[2] == "resolve":
            model = self.server.root.joinpath(*words[:2])
            self._file(model, model.joinpath(*words[4:]))
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _api(self, words: list[str]) -> None:
        model = self.server.root.joinpath(*words[:2])
        if not model.is_dir():
            return self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        files = sorted(path for path in model.rglob("*") if path.is_file())
        listed = [{"type": "file", "path": str(path.relative_to(model))} for path in files]
        if words[2:3] == ["tree"]:
            return self._answer(200, json.dumps([{**one, "size": 1, "oid": "0"} for one in listed]).encode())
        siblings = [{"rfilename": one["path"]} for one in listed]
        about = {"id": "/".join(words[:2]), "sha": self.server.commit, "siblings": siblings}
        return self._answer(200, json.dumps(about).encode())

    def _file(self, model: Path, file: Path) -> None:
        if not model.is_dir():
            return self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        headers = {"X-Repo-Commit": self.server.commit}
        if not file.is_file():
            return self._answer(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
        data = file.read_bytes()
        return self._answer(200, data, {**headers, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@contextmanager
def hub(root: Path, commit: str) -> Iterator[tuple[str, list[str]]]:
    """Yields the hub's address, and the paths that it was asked for; every branch is at `commit`."""
    server = Hub(root, commit)
    with served(server):
        yield f"http://127.0.0.1:{server.server_port}", server.asked
