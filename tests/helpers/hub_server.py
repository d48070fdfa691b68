"""A stand-in for the Hugging Face hub: enough of its HTTP protocol, on 127.0.0.1, for `datasets.load_dataset`.

    with HubServer() as hub:
        hub.add("owner/name", {"data/train-00000-of-00001.parquet": content})
        ... a process with HF_ENDPOINT=hub.address ...

`hub.asked` lists what came, as (method, path). A repository has one commit for each revision it was given.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from helpers.loopback import Loopback


@dataclass(frozen=True)
class _Commit:
    sha: str
    files: dict[str, bytes]
    dropped: str | None


class HubServer(Loopback):
    """Serves the repositories that `add` was given; anything else is 404."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.commits: dict[tuple[str, str], _Commit] = {}
        hub = self

        class Handler(_Handler):
            server_hub = hub

        super().__init__(Handler)

    def add(self, repository: str, files: dict[str, bytes], revision: str = "main", dropped: str | None = None) -> str:
        """Serve these files as a commit, whose hash is returned; of `dropped` only the first half is ever sent."""
        files = {"README.md": b"", **files}
        sha = hashlib.sha1(repr((repository, sorted(files.items()))).encode()).hexdigest()
        self.commits[repository, revision] = self.commits[repository, sha] = _Commit(sha, files, dropped)
        return sha

    def commit(self, repository: str, revision: str) -> _Commit | None:
        return self.commits.get((repository, revision))

    def knows(self, repository: str) -> bool:
        return any(known == repository for known, _ in self.commits)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server_hub.asked.append((self.command, path))
        for pattern, answer in (
            (r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
            (r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)/?(.*)", self._tree),
            (r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?()", self._info),
        ):
            match = re.fullmatch(pattern, path)
            if match:
                repository, revision, rest = match.groups()
                commit = self.server_hub.commit(repository, revision or "main")
                if commit:
                    return answer(commit, repository, rest)
                known = self.server_hub.knows(repository)
                return self._missing("RevisionNotFound" if known else "RepoNotFound")
        return self._missing("EntryNotFound")

    do_HEAD = do_GET

    def _file(self, commit: _Commit, _: str, path: str) -> None:
        if path not in commit.files:
            return self._missing("EntryNotFound", commit)
        content = commit.files[path]
        self._send(200, content, commit, cut=len(content) // 2 if path == commit.dropped else None)

    def _tree(self, commit: _Commit, _: str, folder: str) -> None:
        prefix = folder.strip("/") + "/" if folder else ""
        inside = {path: content for path, content in commit.files.items() if path.startswith(prefix)}
        if prefix and not inside:
            return self._missing("EntryNotFound", commit)
        entries, folders = [], set()
        for path, content in inside.items():
            first, slash, _rest = path[len(prefix) :].partition("/")
            if not slash:
                entries.append({"type": "file", "oid": _etag(content), "size": len(content), "path": path})
            elif prefix + first not in folders:
                folders.add(prefix + first)
                entries.append({"type": "directory", "oid": _etag(first.encode()), "size": 0, "path": prefix + first})
        self._send(200, json.dumps(entries).encode(), commit)

    def _info(self, commit: _Commit, repository: str, _: str) -> None:
        siblings = [{"rfilename": path} for path in commit.files]
        self._send(200, json.dumps({"id": repository, "sha": commit.sha, "siblings": siblings}).encode(), commit)

    def _missing(self, code: str, commit: _Commit | None = None) -> None:
        self._send(404, b"", commit, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(
        self,
        status: int,
        body: bytes,
        commit: _Commit | None,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"ETag": f'"{_etag(body)}"', "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        if commit:
            self.send_header("X-Repo-Commit", commit.sha)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *args: object) -> None:
        pass


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
