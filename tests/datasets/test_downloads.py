"""Fetching: a real server that resumes, breaks, changes its file, or gives another one."""

import errno
import functools
import hashlib
import http.server
import io
import json
import re
import shutil
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field

import pytest

from truemask.datasets import downloads, receiving
from truemask.datasets.downloads import fetch, terminal_progress
from truemask.datasets.receiving import Archive
from truemask.errors import JobFailed, UsageError


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    conditions: bool = True
    length: bool = True
    statuses: list[int] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, behaviour, *args):
        self.behaviour = behaviour
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        behaviour = self.behaviour
        behaviour.asked.append(dict(self.headers))
        if behaviour.statuses and (status := behaviour.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        start = self._start()
        if start > len(behaviour.content):
            self.send_error(416)
            return
        body = behaviour.content[start:]
        total = len(behaviour.content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if behaviour.length:
            self.send_header("Content-Length", str(len(body)))
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        self.end_headers()
        self.wfile.write(body[: behaviour.break_after.pop(0)] if behaviour.break_after else body)

    def _start(self):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        changed = self.behaviour.conditions and condition not in (None, self.behaviour.etag)
        return int(wanted[1]) if wanted and self.behaviour.ranges and not changed else 0


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(receiving, "PAUSE_S", 0.0)
    servers = []

    def start(behaviour, name="data.tar.gz"):
        handler = functools.partial(Handler, behaviour)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/some/where/{name}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def packed(files: dict[str, bytes], mode="w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


FILES = {"set/images/a.jpg": bytes(range(256)) * 900, "set/list.txt": b"a\n"}
CONTENT = packed(FILES, mode="w")


def archive(url, content=CONTENT):
    return Archive(url=url, md5=hashlib.md5(content).hexdigest())


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_fetched(folder, name="data.tar"):
    found = tree(folder)
    manifest = json.loads(found.pop(f"{name}.json"))
    assert found == FILES
    assert manifest["files"] == sorted(FILES)
    assert manifest["bytes"] == len(CONTENT)
    assert manifest["md5"] == hashlib.md5(CONTENT).hexdigest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest["date"])
    return manifest


def test_an_archive_is_fetched_once(tmp_path, serve):
    behaviour = Behaviour(CONTENT)
    url = serve(behaviour, "data.tar")
    seen = []
    fetch(archive(url), tmp_path / "new" / "folder", progress=lambda *args: seen.append(args))
    assert assert_fetched(tmp_path / "new" / "folder")["url"] == url
    assert seen[-2] == ("Fetching data.tar", len(CONTENT), len(CONTENT))
    assert seen[-1] == ("Unpacking data.tar", 0, None)
    assert [done for _, done, _ in seen[:-1]] == sorted(done for _, done, _ in seen[:-1])
    fetch(archive(url), tmp_path / "new" / "folder")
    assert len(behaviour.asked) == 1


def test_what_was_removed_is_fetched_again(tmp_path, serve):
    behaviour = Behaviour(CONTENT)
    wanted = archive(serve(behaviour, "data.tar"))
    fetch(wanted, tmp_path)
    shutil.rmtree(tmp_path / "set")
    fetch(wanted, tmp_path)
    assert_fetched(tmp_path)
    # Files may be thinned out, though: the manifest stands for the download.
    (tmp_path / "set" / "list.txt").unlink()
    fetch(wanted, tmp_path)
    assert len(behaviour.asked) == 2


@pytest.mark.parametrize("mode", ["w:gz", "zip"])
def test_other_kinds_of_archives(tmp_path, serve, mode):
    content, name = packed(FILES), "data.tar.gz"
    if mode == "zip":
        buffer, name = io.BytesIO(), "data.zip"
        with zipfile.ZipFile(buffer, "w") as file:
            for path, data in FILES.items():
                file.writestr(path, data)
        content = buffer.getvalue()
    fetch(archive(serve(Behaviour(content), name), content), tmp_path)
    assert {key: value for key, value in tree(tmp_path).items() if key != f"{name}.json"} == FILES


def test_a_broken_connection_is_taken_up_where_it_ended(tmp_path, serve):
    behaviour = Behaviour(CONTENT, break_after=[100_000, 50_000])
    fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert_fetched(tmp_path)
    assert [request.get("Range") for request in behaviour.asked] == [
        None, "bytes=100000-", "bytes=150000-",
    ]  # fmt: skip
    assert behaviour.asked[1]["If-Range"] == '"one"'


def test_another_process_takes_it_up_too(tmp_path, serve):
    behaviour = Behaviour(CONTENT, break_after=[70_000, 0, 0, 0])
    wanted = archive(serve(behaviour, "data.tar"))
    with pytest.raises(JobFailed, match=r"cannot fetch http.*: the connection ended after"):
        fetch(wanted, tmp_path)
    assert set(tree(tmp_path)) == {"data.tar.part", "data.tar.part.json"}
    fetch(wanted, tmp_path)
    assert_fetched(tmp_path)
    assert behaviour.asked[-1]["Range"] == "bytes=70000-"


@pytest.mark.parametrize("conditions", [True, False])
@pytest.mark.parametrize("same_length", [True, False])
def test_a_file_that_changed_is_fetched_anew(tmp_path, serve, conditions, same_length):
    other = packed({"old.txt": b"x" * (len(FILES["set/images/a.jpg"]))}, mode="w")
    old = other[: len(CONTENT)].ljust(len(CONTENT)) if same_length else other
    behaviour = Behaviour(old, break_after=[70_000, 0, 0, 0], conditions=conditions)
    wanted = archive(serve(behaviour, "data.tar"))
    with pytest.raises(JobFailed, match="the connection ended"):
        fetch(wanted, tmp_path)
    behaviour.content, behaviour.etag = CONTENT, '"two"'
    fetch(wanted, tmp_path)
    assert_fetched(tmp_path)


def test_a_change_that_the_server_hides_is_found_by_the_checksum(tmp_path, serve):
    behaviour = Behaviour(b"x" * len(CONTENT), etag=None, break_after=[70_000, 0, 0, 0])
    wanted = archive(serve(behaviour, "data.tar"))
    with pytest.raises(JobFailed, match="the connection ended"):
        fetch(wanted, tmp_path)
    behaviour.content = CONTENT
    fetch(wanted, tmp_path)
    assert_fetched(tmp_path)
    assert "Range" not in behaviour.asked[-1]


def test_a_file_that_became_shorter(tmp_path, serve):
    behaviour = Behaviour(CONTENT * 3, break_after=[len(CONTENT) * 2, 0, 0, 0], conditions=False)
    wanted = archive(serve(behaviour, "data.tar"))
    with pytest.raises(JobFailed, match="the connection ended"):
        fetch(wanted, tmp_path)
    behaviour.content = CONTENT
    fetch(wanted, tmp_path)
    assert_fetched(tmp_path)


def test_a_server_without_ranges_starts_over(tmp_path, serve):
    behaviour = Behaviour(CONTENT, ranges=False, break_after=[100_000])
    fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert_fetched(tmp_path)
    always = Behaviour(CONTENT, ranges=False, break_after=[100_000] * 100)
    with pytest.raises(JobFailed, match="the connection ended after 100,000 of"):
        fetch(archive(serve(always, "data.tar")), tmp_path / "always")
    assert len(always.asked) < 10


def test_a_server_that_tells_no_length(tmp_path, serve):
    fetch(archive(serve(Behaviour(CONTENT, length=False), "data.tar")), tmp_path)
    assert_fetched(tmp_path)


def test_a_busy_server_is_asked_again(tmp_path, serve):
    behaviour = Behaviour(CONTENT, statuses=[503, 429, 200])
    fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert_fetched(tmp_path)
    behaviour = Behaviour(CONTENT, statuses=[503] * 9)
    with pytest.raises(JobFailed, match="the server answers 503"):
        fetch(archive(serve(behaviour, "data.tar")), tmp_path / "other")


def test_a_missing_file_is_told_at_once(tmp_path, serve):
    behaviour = Behaviour(CONTENT, statuses=[404] * 9)
    url = serve(behaviour, "data.tar")
    with pytest.raises(JobFailed) as caught:
        fetch(archive(url), tmp_path)
    message = str(caught.value)
    assert message == (
        f"cannot fetch {url}: the server answers 404 Not Found; try again later, or fetch it by "
        f"hand, put it at {tmp_path / 'data.tar'}, and run the same command"
    )
    assert len(behaviour.asked) == 1
    assert tree(tmp_path) == {}


def test_no_connection(tmp_path, serve):
    url = serve(Behaviour(CONTENT), "data.tar")
    closed = url.replace(re.search(r":(\d+)/", url)[1], "9")
    with pytest.raises(JobFailed, match=r"there is no connection \(.*refused.*\); try again later"):
        fetch(archive(closed), tmp_path)


def test_a_wrong_checksum_leaves_nothing(tmp_path, serve):
    behaviour = Behaviour(b"<html>please log in</html>")
    with pytest.raises(JobFailed, match=r"is damaged, or another file \(md5 [0-9a-f]{32}, not"):
        fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert tree(tmp_path) == {}
    behaviour.content = CONTENT
    fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert_fetched(tmp_path)


def test_an_archive_put_there_by_hand_is_taken_and_kept(tmp_path, serve):
    behaviour = Behaviour(CONTENT)
    (tmp_path / "data.tar").write_bytes(CONTENT)
    fetch(archive(serve(behaviour, "data.tar")), tmp_path)
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert behaviour.asked == []
    (tmp_path / "data.tar").unlink()
    assert_fetched(tmp_path)


def test_half_an_archive_is_not_accepted(tmp_path, serve):
    url = serve(Behaviour(CONTENT), "data.tar")
    (tmp_path / "data.tar").write_bytes(CONTENT[:-1])
    with pytest.raises(UsageError, match=r"data\.tar is not the archive .* fetch it again, or rem"):
        fetch(archive(url), tmp_path)
    assert set(tree(tmp_path)) == {"data.tar"}
    # Half of one that another program left under the name of a part is no reason to trust it.
    (tmp_path / "data.tar").replace(tmp_path / "data.tar.part")
    fetch(archive(url), tmp_path)
    assert_fetched(tmp_path)


def test_content_goes_into_folders_that_are_there(tmp_path, serve):
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "images" / "mine.jpg").write_bytes(b"mine")
    (tmp_path / "set" / "list.txt").write_bytes(FILES["set/list.txt"])
    fetch(archive(serve(Behaviour(CONTENT), "data.tar")), tmp_path)
    found = tree(tmp_path)
    assert found.pop("set/images/mine.jpg") == b"mine"
    assert {key: found[key] for key in FILES} == FILES


def test_nothing_that_is_there_is_overwritten(tmp_path, serve):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "list.txt").write_bytes(b"my own list\n")
    with pytest.raises(UsageError, match=r"1 files of .* differ .*list\.txt\): move these away"):
        fetch(archive(serve(Behaviour(CONTENT), "data.tar")), tmp_path)
    # The archive stays, so that it need not be fetched again.
    assert tree(tmp_path).keys() - {"data.tar.part.json"} == {"set/list.txt", "data.tar"}
    (tmp_path / "set" / "list.txt").unlink()
    fetch(archive(serve(Behaviour(CONTENT, statuses=[404]), "data.tar")), tmp_path)
    assert tree(tmp_path)["set/list.txt"] == b"a\n"


def test_members_outside_of_the_folder_are_refused(tmp_path, serve):
    content = packed({"set/a.txt": b"a", "../outside.txt": b"evil"}, mode="w")
    with pytest.raises(JobFailed, match=r"cannot be unpacked: .*outside"):
        fetch(archive(serve(Behaviour(content), "data.tar"), content), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert set(tree(tmp_path / "folder")) == {"data.tar", "data.tar.part.json"}


def test_a_leading_slash_is_no_way_out(tmp_path, serve):
    outside = tmp_path / "outside.txt"
    content = packed({str(outside): b"evil"}, mode="w")
    fetch(archive(serve(Behaviour(content), "data.tar"), content), tmp_path / "folder")
    assert not outside.exists()
    assert tree(tmp_path / "folder")[str(outside)[1:]] == b"evil"


def test_a_damaged_archive(tmp_path, serve):
    content = packed(FILES)[:-500]
    with pytest.raises(JobFailed, match=r"data\.tar\.gz cannot be unpacked: .*; remove it, and tr"):
        fetch(archive(serve(Behaviour(content), "data.tar.gz"), content), tmp_path)
    assert "set" not in {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "data.tar.gz.json").exists()


def test_a_crash_before_the_manifest_is_taken_up(tmp_path, serve, monkeypatch):
    wanted = archive(serve(Behaviour(CONTENT), "data.tar"))

    def crash(new, old):
        (old / "set").mkdir()
        (new / "set" / "list.txt").rename(old / "set" / "list.txt")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(downloads, "_move", crash)
        with pytest.raises(KeyboardInterrupt):
            fetch(wanted, tmp_path)
    assert not (tmp_path / "data.tar.json").exists()
    fetch(wanted, tmp_path)
    found = tree(tmp_path)
    assert {key: found[key] for key in FILES} == FILES
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk(tmp_path, serve, monkeypatch):
    wanted = archive(serve(Behaviour(CONTENT), "data.tar"))
    with monkeypatch.context() as patched:
        usage = shutil._ntuple_diskusage(10**6, 10**6, 300_000)
        patched.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(UsageError, match=r"has 0\.0 GB free, but data\.tar needs .* free some"):
            fetch(wanted, tmp_path)

    def full(new, old):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(downloads, "_move", full)
        with pytest.raises(UsageError, match="the disk is full: free some space"):
            fetch(wanted, tmp_path)
    fetch(wanted, tmp_path)
    found = tree(tmp_path)
    assert {key: found[key] for key in FILES} == FILES


def test_a_file_where_the_folder_should_be(tmp_path, serve):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file of that name is in the way|part of this path"):
        fetch(archive(serve(Behaviour(CONTENT), "data.tar")), tmp_path / "file")


def test_two_threads_fetch_once(tmp_path, serve):
    behaviour = Behaviour(CONTENT)
    wanted = archive(serve(behaviour, "data.tar"))
    threads = [threading.Thread(target=fetch, args=(wanted, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_fetched(tmp_path)
    assert len(behaviour.asked) == 1


def test_bars_are_for_terminals_only(capsys, monkeypatch):
    with terminal_progress() as progress:
        assert progress is None
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with terminal_progress() as progress:
        assert progress is not None
        progress("Fetching data.tar", 10, 100)
        progress("Fetching data.tar", 100, 100)
        progress("Unpacking data.tar", 0, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Fetching data.tar" in captured.err
