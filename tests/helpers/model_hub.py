"""A stand-in for the Hugging Face hub's models: enough of its HTTP protocol, on 127.0.0.1, to upload and to download.

    with ModelHub() as hub:
        ... a process with HF_ENDPOINT=hub.address and HF_TOKEN ...

Small files come in the commit itself, those in `lfs` by LFS. `hub.asked` lists what came, as (method, path).
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any

import yaml

from helpers.loopback import Loopback


class ModelHub(Loopback):
    """Repositories by name: branches by name: files. `token` is the one that may write."""

    def __init__(self, lfs: tuple[str, ...] = ()) -> None:
        self.lfs = lfs
        self.token = "hf_secret"
        self.private: dict[str, bool] = {}
        self.branches: dict[str, dict[str, dict[str, bytes]]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        # Names of files, and how many more times only half of what is asked for is sent before the connection drops.
        self.drops: dict[str, int] = {}
        # Names of files that are sent with another byte.
        self.damaged: set[str] = set()
        hub = self

        class Handler(_Handler):
            model_hub = hub

        super().__init__(Handler)

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a branch or a commit; None if there is none."""
        branches = self.branches.get(repository, {})
        commits = {commit_of(files): files for files in branches.values()}
        files = branches.get(revision, commits.get(revision))
        return None if files is None else (commit_of(files), files)


def commit_of(files: dict[str, bytes]) -> str:
    """The hash of a commit with these files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model_hub: ModelHub

    def do_GET(self) -> None:
        path = self._path()
        if path == "/api/whoami-v2":
            return self._json({"type": "user", "name": "somebody"})
        for pattern, answer in (
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)()", self._tree),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?()", self._info),
        ):
            match = re.fullmatch(pattern, path)
            if match:
                repository, revision, rest = match.groups()
                found = self.model_hub.files(repository, revision or "main")
                if found:
                    return answer(repository, *found, rest)
                known = repository in self.model_hub.branches
                return self._missing("RevisionNotFound" if known else "RepoNotFound")
        return self._missing("EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.model_hub.token}":
            return self._json({"error": "Invalid credentials"}, 401)
        hub = self.model_hub
        if path == "/api/validate-yaml":
            # The hub checks the head of the card.
            head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            return self._json({"errors": [] if head.get("license") else [{"message": "no license"}], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            hub.private.setdefault(name, asked.get("private") is True or asked.get("visibility") == "private")
            hub.branches.setdefault(name, {"main": {}})
            return self._json({"url": f"{hub.address}/{name}", "name": name, "id": name})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", path):
            hub.branches[match[1]].setdefault(match[2], {})
            return self._json({})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"] in hub.lfs else "regular"}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            objects = [
                {**each, "actions": {"upload": {"href": f"{hub.address}/lfs/{each['oid']}", "header": {}}}}
                for each in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            return self._commit(match[1], match[2], body)
        return self._missing("EntryNotFound")

    def do_PUT(self) -> None:
        oid = self._path().rpartition("/")[2]
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert hashlib.sha256(content).hexdigest() == oid
        self.model_hub.objects[oid] = content
        self._send(200, b"")

    def _commit(self, repository: str, revision: str, body: bytes) -> None:
        files = dict(self.model_hub.branches[repository][revision])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.model_hub.objects[value["oid"]]
        self.model_hub.branches[repository][revision] = files
        commit = commit_of(files)
        url = f"{self.model_hub.address}/{repository}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _file(self, _: str, commit: str, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            return self._missing("EntryNotFound", commit)
        content = files[path]
        if path in self.model_hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"'}
        status, begin = 200, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if begin:
            status, first = 206, int(begin[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content = content[first:]
        dropped = self.command == "GET" and self.model_hub.drops.get(path, 0) > 0
        if dropped:
            self.model_hub.drops[path] -= 1
        self._send(status, content, headers, len(content) // 2 if dropped else None)

    def _tree(self, _: str, commit: str, files: dict[str, bytes], __: str) -> None:
        self._json(
            [
                {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}
                for name, content in files.items()
            ]
        )

    def _info(self, repository: str, commit: str, files: dict[str, bytes], _: str) -> None:
        self._json({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]})

    def _path(self) -> str:
        path = self.path.partition("?")[0]
        self.model_hub.asked.append((self.command, path))
        return path

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        self._send(404, b"", headers | ({"X-Repo-Commit": commit} if commit else {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *args: object) -> None:
        pass
