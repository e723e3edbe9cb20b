"""A hub on the loopback interface: enough of the Hugging Face hub's HTTP interface to serve repositories to the
unmodified client libraries (HF_ENDPOINT), and to fail in the ways that the real one fails.

Served: file contents with ranges (large files by a redirect to a content address, as the hub does), repository info,
trees, paths-info, and the error codes in the headers that the client tells missing repositories, revisions and files
by.
"""

import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow.parquet
import yaml
from datasets import Dataset

LARGE = (".parquet", ".safetensors", ".model")  # kept in large-file storage: redirected, named by their SHA-256


@dataclass
class Repository:
    """Files of each branch; `kind` is "datasets" or "models"."""

    kind: str
    branches: dict[str, dict[str, bytes]]

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, or of the commit itself."""
        for branch in self.branches:
            if revision in (branch, self._sha(branch)):
                return self._sha(branch)
        return None

    def files(self, commit: str) -> dict[str, bytes]:
        return next(files for branch, files in self.branches.items() if self._sha(branch) == commit)

    def _sha(self, branch: str) -> str:
        parts = [f"{path} {hashlib.sha1(content).hexdigest()}" for path, content in self.branches[branch].items()]
        return hashlib.sha1("\n".join([branch, *sorted(parts)]).encode()).hexdigest()


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path" matches `where`, so many `times`.

    kind: "drop" closes the connection after half of the body; "cut" sends half of the body as if that were all;
    "garble" sends other bytes, "hang" sends nothing until the client leaves; an integer is an HTTP status.
    """

    where: str
    kind: str | int
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)


class Hub:
    """The server; a context manager that stops it. `requests` records "METHOD path" with the time of each."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[float, str]] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.store = self.url.replace("127.0.0.1", "localhost")  # another host, as where the hub redirects to

    def __enter__(self) -> "Hub":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, files: Mapping[str, bytes | str], *, kind: str = "datasets", branch: str = "main") -> None:
        """Add files to a branch of a repository, which is made if need be."""
        repository = self.repositories.setdefault((kind, name), Repository(kind, {}))
        held = repository.branches.setdefault(branch, {})
        held |= {path: c.encode() if isinstance(c, str) else c for path, c in files.items()}

    def add_tables(self, name: str, configs: Mapping[str, Mapping[str, Dataset]]) -> None:
        """A data set repository of parquet files: CONFIG/SPLIT-00000-of-00001.parquet and a card that names them."""
        single = tuple(configs) == ("default",)
        files: dict[str, bytes | str] = {}
        infos, entries = [], []
        for config, splits in configs.items():
            folder = "data" if single else config
            paths = {split: f"{folder}/{split}-00000-of-00001.parquet" for split in splits}
            contents = {split: parquet(table) for split, table in splits.items()}
            files |= {paths[split]: content for split, content in contents.items()}
            features = next(iter(splits.values())).features
            infos.append(
                {
                    "config_name": config,
                    "features": features._to_yaml_list(),
                    "splits": [
                        {"name": split, "num_bytes": len(contents[split]), "num_examples": len(table)}
                        for split, table in splits.items()
                    ],
                    "download_size": sum(map(len, contents.values())),
                    "dataset_size": sum(map(len, contents.values())),
                }
            )
            listed = [{"split": split, "path": f"{folder}/{split}-*"} for split in splits]
            entries.append({"config_name": config, "data_files": listed})
        card = {"language": ["en"], "dataset_info": infos[0] if single else infos, "configs": entries}
        self.add(name, {**files, "README.md": f"---\n{yaml.safe_dump(card)}---\n# {name}\n"})

    def add_script(self, name: str, splits: Mapping[str, Dataset]) -> None:
        """A repository that has only a loading script, and the hub's own conversion of it in another branch."""
        script = name.partition("/")[2] + ".py"
        self.add(name, {"README.md": "---\nlanguage: en\n---\n", script: "import datasets\n"})
        tables = {f"default/{split}/0000.parquet": parquet(table) for split, table in splits.items()}
        self.add(name, tables, branch="refs/convert/parquet")

    def fail(self, where: str, kind: str | int, times: int = 1, **headers: str) -> Fault:
        """Let matching requests fail from now on; header names are written with _ for -."""
        fault = Fault(where, kind, times, {name.replace("_", "-"): value for name, value in headers.items()})
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault(self, request: str) -> Fault | None:
        """The fault that befalls this request, counted down."""
        with self.lock:
            self.requests.append((time.monotonic(), request))
            for fault in self.faults:
                if fault.times and re.search(fault.where, request):
                    fault.times -= 1
                    return fault
        return None

    def asked(self, pattern: str) -> list[float]:
        """Times of the requests that match."""
        with self.lock:
            return [when for when, request in self.requests if re.search(pattern, request)]


def parquet(table: Dataset) -> bytes:
    """The table as a parquet file, with the features in its metadata, as `datasets` pushes it."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.data.table, sink)
    return sink.getvalue()


# ---------------------------------------------------------------- the protocol

CONTENT = re.compile(r"/(?:(datasets)/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
ADDRESS = re.compile(r"/cdn/(\w+)")
API = re.compile(r"/api/(datasets|models)/([\w.-]+/[\w.-]+)(?:/(revision|tree|paths-info)/([^/]+))?(?:/(.+))?")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.fault = self.hub.fault(f"{self.command} {unquote(self.path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.fault is not None and isinstance(self.fault.kind, int):
            return self._send(self.fault.kind, b"{}", **self.fault.headers)
        path, _, query = self.path.partition("?")
        if match := CONTENT.fullmatch(path):
            kind, name, revision, file = match.groups()
            return self._file(kind or "models", name, unquote(revision), unquote(file))
        if match := ADDRESS.fullmatch(path):
            return self._content(self._by_address(match[1]), match[1])
        if match := API.fullmatch(path):
            kind, name, what, revision, folder = match.groups()
            return self._api(kind, name, what, unquote(revision or "main"), unquote(folder or ""), query, body)
        self._refuse(404, "EntryNotFound", f"nothing at {urlsplit(self.path).path}")

    def _file(self, kind: str, name: str, revision: str, file: str) -> None:
        held = self._revision(kind, name, revision)
        if held is None:
            return
        commit, files = held
        if file not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        content = files[file]
        digest = hashlib.sha256(content).hexdigest()
        if not file.endswith(LARGE):
            return self._content(content, hashlib.sha1(content).hexdigest(), X_Repo_Commit=commit)
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_ETag": f'"{digest}"', "X_Repo_Commit": commit}
        self._send(302, b"Found", Location=f"{self.hub.store}/cdn/{digest}", **linked)

    def _content(self, content: bytes | None, etag: str, **headers: str) -> None:
        if content is None:
            return self._refuse(404, "EntryNotFound", "no such content")
        headers |= {"ETag": f'"{etag}"', "Accept_Ranges": "bytes", "Content_Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, **headers)
        start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            return self._send(416, b"", Content_Range=f"bytes */{len(content)}")
        headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, content[start : end + 1], **headers)

    def _by_address(self, digest: str) -> bytes | None:
        every = (f.values() for r in self.hub.repositories.values() for f in r.branches.values())
        return next((c for contents in every for c in contents if hashlib.sha256(c).hexdigest() == digest), None)

    def _api(self, kind: str, name: str, what: str, revision: str, folder: str, query: str, body: bytes) -> None:
        held = self._revision(kind, name, revision)
        if held is None:
            return
        commit, files = held
        if what == "tree":
            recursive = parse_qs(query).get("recursive", ["false"])[0].lower() in ("true", "1")
            if folder and not any(path.startswith(f"{folder}/") for path in files):
                return self._refuse(404, "EntryNotFound", f"{folder} does not exist", X_Repo_Commit=commit)
            return self._json(_tree(files, folder, recursive))
        if what == "paths-info":
            given = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
            known = {entry["path"]: entry for entry in _tree(files, "", recursive=True)}
            return self._json([known[path] for path in given["paths"] if path in known])
        siblings = [{"rfilename": path} for path in sorted(files)]
        self._json({"_id": commit[:24], "id": name, "sha": commit, "private": False, "siblings": siblings, "tags": []})

    def _revision(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files), or None after a refusal was sent."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None:  # as the hub answers people it does not know, who might not see a private repository
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, repository.files(commit)

    def _refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        coded = {"X_Error_Code": code} if code else {}
        self._send(status, json.dumps({"error": message}).encode(), X_Error_Message=message, **coded, **headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), Content_Type="application/json")

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        kind = self.fault.kind if self.fault is not None else ""
        if kind == "hang":
            self.rfile.read(1)  # returns when the client closes the connection
        if kind in ("drop", "hang") and (self.command == "HEAD" or len(body) < 2):
            self.close_connection = True
            return
        body = bytes(len(body)) if kind == "garble" else body
        sent = body[: len(body) // 2] if kind in ("drop", "cut") else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(sent if kind == "cut" else body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        if kind == "drop":
            self.close_connection = True


def _tree(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Entries of a folder, as the hub lists them."""
    entries: dict[str, dict[str, Any]] = {}
    start = f"{folder}/" if folder else ""
    for path, content in sorted(files.items()):
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts)):
            below = start + "/".join(parts[:depth])
            entry = {"type": "directory", "path": below, "oid": hashlib.sha1(b"").hexdigest(), "size": 0}
            entries.setdefault(below, entry)
            if not recursive:
                break
        if len(parts) == 1 or recursive:
            entries[path] = {
                "type": "file",
                "path": path,
                "oid": hashlib.sha1(content).hexdigest(),
                "size": len(content),
            }
            if path.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                entries[path]["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 132}
    return list(entries.values())
