"""A small Hugging Face Hub over HTTP: the endpoints that pushing and loading a model need.

`python hub_server.py PORT` keeps all in memory. The token "writer" belongs to the user "me" and may
write there; "reader" may read what is public; any other is unknown. Its answers are those that the
documentation of the Hub's API tells of, and that the Hub's library understands.
"""

import base64
import hashlib
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

USERS = {"writer": "me", "reader": "other"}


@dataclass
class Repo:
    """One repository: a list of commits, each the whole of its files."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add one."""
        seed = f"{len(self.commits)}{sorted(files)}".encode()
        sha = hashlib.sha1(seed + b"".join(files[name] for name in sorted(files))).hexdigest()
        self.commits.append((sha, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Of "main" or a commit."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class Refused(Exception):
    """An answer as the Hub gives it."""

    def __init__(self, status: int, code: str, text: str) -> None:
        self.status, self.code, self.text = status, code, text


app = FastAPI()
repos: dict[str, Repo] = {}
objects: dict[str, bytes] = {}
requests: list[str] = []


@app.exception_handler(Refused)
def refuse(request: Request, error: Refused) -> JSONResponse:
    """With the headers by which the library tells what was wrong."""
    headers = {"X-Error-Code": error.code, "X-Error-Message": error.text}
    return JSONResponse({"error": error.text}, error.status, headers)


@app.middleware("http")
async def note(request: Request, call: Any) -> Response:
    """Keep what was asked for."""
    requests.append(f"{request.method} {request.url.path}")
    response: Response = await call(request)
    return response


def user_of(request: Request) -> str | None:
    """Who asks; of an unknown token nobody gets an answer."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    token = given.removeprefix("Bearer ")
    if token not in USERS:
        raise Refused(401, "", "Invalid credentials in Authorization header")
    return USERS[token]


def found(request: Request, owner: str, name: str) -> Repo:
    """A repository that this user may see."""
    user, repo = user_of(request), repos.get(f"{owner}/{name}")
    if repo is None or (repo.private and user != owner):
        # The Hub tells nobody that a private one exists.
        raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
    return repo


def snapshot(repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
    """The files at a revision."""
    commit = repo.at(revision)
    if commit is None:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def writable(request: Request, owner: str, name: str) -> Repo:
    """A repository that this user may write to."""
    repo = found(request, owner, name)
    if user_of(request) != owner:
        raise Refused(403, "", "You don't have the required permissions")
    return repo


def is_large(path: str) -> bool:
    """What goes to the large file storage."""
    return path.endswith((".safetensors", ".onnx"))


@app.get("/_requests")
def asked() -> list[str]:
    """All that was asked for until now."""
    return requests


@app.post("/_repo/{owner}/{name}")
async def put(request: Request, owner: str, name: str) -> dict[str, str]:
    """Make a repository out of nothing, for a test."""
    value = await request.json()
    repo = repos.setdefault(f"{owner}/{name}", Repo())
    repo.private, repo.gated = value.get("private", False), value.get("gated", False)
    return {"sha": repo.commit({k: base64.b64decode(v) for k, v in value["files"].items()})}


@app.get("/api/whoami-v2")
def whoami(request: Request) -> dict[str, Any]:
    """The user."""
    return {"type": "user", "name": user_of(request), "orgs": []}


@app.post("/api/validate-yaml")
async def validate(request: Request) -> Response:
    """The metadata of a card, as far as the Hub refuses it."""
    text = (await request.json())["content"]
    data = yaml.safe_load(text.split("---")[1])
    errors = []
    if not isinstance(data.get("license"), str):
        errors.append({"message": "license must be a string"})
    for model in data.get("model-index", []):
        for result in model["results"]:
            if not {"task", "dataset", "metrics"} <= result.keys():
                errors.append({"message": "a result lacks its task, dataset or metrics"})
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


@app.post("/api/repos/create")
async def create(request: Request) -> Response:
    """A new repository of the user's."""
    value, user = await request.json(), user_of(request)
    owner = value.get("organization") or user
    if user is None:
        raise Refused(401, "", "You must be logged in")
    if owner != user:
        raise Refused(403, "", "You don't have the rights to create a model under this namespace")
    url = {"url": f"{request.base_url}{owner}/{value['name']}"}
    if f"{owner}/{value['name']}" in repos:
        return JSONResponse({"error": "You already created this model repo", **url}, 409)
    private = value.get("visibility") == "private" or value.get("private", False)
    repo = repos[f"{owner}/{value['name']}"] = Repo(private=private)
    repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
    return JSONResponse(url)


@app.post("/api/models/{owner}/{name}/preupload/{revision}")
async def preupload(request: Request, owner: str, name: str, revision: str) -> dict[str, Any]:
    """Which files are large."""
    writable(request, owner, name)
    files = (await request.json())["files"]
    modes = {file["path"]: "lfs" if is_large(file["path"]) else "regular" for file in files}
    return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False}
                      for path, mode in modes.items()]}  # fmt: skip


@app.post("/{owner}/{name}.git/info/lfs/objects/batch")
async def batch(request: Request, owner: str, name: str) -> dict[str, Any]:
    """Where large files are to be sent."""
    writable(request, owner, name)
    wanted = (await request.json())["objects"]
    answer = []
    for item in wanted:
        href = f"{request.base_url}_objects/{item['oid']}"
        actions = {} if item["oid"] in objects else {"actions": {"upload": {"href": href}}}
        answer.append({**item, **actions})
    return {"transfer": "basic", "objects": answer}


@app.put("/_objects/{oid}")
async def store(request: Request, oid: str) -> Response:
    """A large file; one whose content is not what its name says is refused."""
    content = await request.body()
    if hashlib.sha256(content).hexdigest() != oid:
        raise HTTPException(400, "the content has another digest")
    objects[oid] = content
    return Response()


@app.post("/api/models/{owner}/{name}/commit/{revision}")
async def commit(request: Request, owner: str, name: str, revision: str) -> dict[str, Any]:
    """Files added and deleted, in one step."""
    repo = writable(request, owner, name)
    files = dict(repo.commits[-1][1])
    for line in (await request.body()).decode().splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            files[value["path"]] = objects[value["oid"]]
        elif entry["key"] == "deletedFile":
            files.pop(value["path"])
    sha = repo.commit(files)
    url = f"{request.base_url}{owner}/{name}/commit/{sha}"
    return {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""}


def described(path: str, content: bytes) -> dict[str, Any]:
    """A file as listings tell of it."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"size": len(content), "blobId": oid, "oid": oid}
    if is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
    return entry


@app.get("/api/models/{owner}/{name}")
@app.get("/api/models/{owner}/{name}/revision/{revision}")
def info(request: Request, owner: str, name: str, revision: str = "main") -> dict[str, Any]:
    """A repository at a revision."""
    repo = found(request, owner, name)
    sha, files = snapshot(repo, revision)
    siblings = [{"rfilename": path, **described(path, content)} for path, content in files.items()]
    return {"_id": "0", "id": f"{owner}/{name}", "modelId": f"{owner}/{name}", "sha": sha,
            "private": repo.private, "gated": False, "siblings": siblings}  # fmt: skip


@app.get("/api/models/{owner}/{name}/tree/{revision}")
def tree(request: Request, owner: str, name: str, revision: str) -> list[dict[str, Any]]:
    """Its files."""
    _, files = snapshot(found(request, owner, name), revision)
    return [{"type": "file", "path": path, **described(path, content)}
            for path, content in files.items()]  # fmt: skip


@app.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
    """A file, with the commit and the digest by which it is kept."""
    repo = found(request, owner, name)
    if repo.gated and user_of(request) != owner:
        raise Refused(403, "GatedRepo", "Access to this model is restricted")
    sha, files = snapshot(repo, revision)
    if path not in files:
        raise Refused(404, "EntryNotFound", "Entry not found")
    content = files[path]
    entry = described(path, content)
    etag = entry["lfs"]["sha256"] if "lfs" in entry else entry["oid"]
    headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content)),
               "X-Linked-ETag": f'"{etag}"'}  # fmt: skip
    return Response(content, headers=headers, media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
