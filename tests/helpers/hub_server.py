"""A small stand-in for the Hugging Face hub: repositories below a folder, over the same HTTP paths.

Run as ``python hub_server.py FOLDER``; prints its port. Datasets are FOLDER/owner/name, models
FOLDER/models/owner/name/REVISION. A file called ``fails`` beside a dataset's folder makes every
read of data fail.
"""

import hashlib
import http.server
import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1])
MODELS = ROOT / "models"
SHA = "a" * 40


def commit_of(branch: str) -> str:
    return hashlib.sha1(branch.encode()).hexdigest()


def revision(model: Path, asked: str) -> Path:
    """The folder of a branch, by its name or its commit."""
    commits = {commit_of(p.name): p for p in model.iterdir()}
    return commits.get(asked, model / asked)


def entry(repo: Path, path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
    name = path.relative_to(repo).as_posix()
    oid = hashlib.sha1(data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": oid, "lfs": lfs}


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        path, everything = urllib.parse.unquote(url.path), "recursive=true" in url.query.lower()
        match path.strip("/").split("/"):
            case ["api", "datasets", owner, name, *rest] if (ROOT / owner / name).is_dir():
                self.describe(ROOT / owner / name, f"{owner}/{name}", rest, everything)
            case ["datasets", owner, name, "resolve", _, *rest]:
                self.file(ROOT / owner / name, "/".join(rest))
            case ["api", "models", owner, name, *rest] if (MODELS / owner / name).is_dir():
                self.describe_model(MODELS / owner / name, f"{owner}/{name}", rest)
            case [owner, name, "resolve", commit, *rest] if (MODELS / owner / name).is_dir():
                self.file(revision(MODELS / owner / name, commit), "/".join(rest), commit)
            case _:
                self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def describe(self, repo: Path, name: str, rest: list[str], everything: bool) -> None:
        files = [entry(repo, p) for p in sorted(repo.rglob("*")) if p.is_file()]
        if rest[:1] == ["tree"] and everything:
            return self.json(files)
        if rest[:1] == ["tree"]:
            below = "/".join(rest[2:])
            inside = [f for f in files if Path(f["path"]).parent.as_posix() == (below or ".")]
            folders = [p for p in sorted((repo / below).iterdir()) if p.is_dir()]
            names = [p.relative_to(repo).as_posix() for p in folders]
            listed = [{"type": "directory", "path": n, "oid": "d" * 40, "size": 0} for n in names]
            return self.json([*inside, *listed])
        siblings = [{"rfilename": f["path"]} for f in files]
        return self.json({"id": name, "_id": "1", "sha": SHA, "siblings": siblings, "tags": []})

    def describe_model(self, model: Path, name: str, rest: list[str]) -> None:
        if rest == ["refs"]:
            found = [
                {"name": p.name, "ref": f"refs/heads/{p.name}", "targetCommit": commit_of(p.name)}
                for p in sorted(model.iterdir())
            ]
            return self.json({"branches": found, "tags": [], "converts": []})
        asked = rest[1] if rest[:1] in (["revision"], ["tree"]) else "main"
        repo = revision(model, asked)
        if not repo.is_dir():
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = [entry(repo, p) for p in sorted(repo.rglob("*")) if p.is_file()]
        if rest[:1] == ["tree"]:
            return self.json([{k: v for k, v in f.items() if k != "lfs"} for f in files])
        siblings = [{"rfilename": f["path"]} for f in files]
        head = {"id": name, "_id": "1", "sha": commit_of(repo.name), "tags": []}
        return self.json({**head, "siblings": siblings})

    def file(self, repo: Path, name: str, commit: str = SHA) -> None:
        path = repo / name
        if not path.is_file():
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.reply(200, data, headers)
        if repo.with_name("fails").exists():
            return self.reply(403, b"no")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(206, part, headers)

    def json(self, tree: Any) -> None:
        self.reply(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})

    def reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_port, flush=True)
    server.serve_forever()
