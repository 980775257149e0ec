import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truemask.errors import UsageError
from truemask.files import (
    atomic_path,
    explain_os_errors,
    make_folder,
    read_json,
    remove_partial,
    write_json,
    write_text,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


# Writing


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "erste\n")
    write_text(path, "zweite, größer\n")
    assert path.read_bytes() == "zweite, größer\n".encode()
    assert names(tmp_path) == ["note.txt"]


def test_until_the_end_the_old_content_stands(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent, "a rename is one step on one file system only"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_killed_writer_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from truemask.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of the n')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    left = [name for name in names(tmp_path) if name != "a.txt"]
    assert all(name.startswith(".") and name.endswith(".part") for name in left)


def test_the_data_is_on_disk_before_the_name(tmp_path, monkeypatch):
    path, steps = tmp_path / "a.txt", []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), fsync(handle)))
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (steps.append("replace"), replace(self, target))
    )
    write_text(path, "x")
    assert steps == ["fsync", "replace"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_follows_the_users_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        assert os.umask(before) == umask, "the umask of the process must stay"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_many_writers_of_one_file_leave_one_of_their_contents(tmp_path):
    path = tmp_path / "a.txt"
    contents = [str(i) * 20_000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, ".hidden", "no suffix", "a.tar.gz"])
def test_every_name_that_the_disk_takes_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert names(tmp_path) == [name]


# Explaining


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
    ],
)
def test_refusals_of_the_system_are_one_clear_line(tmp_path, number, words):
    path = tmp_path / "a.txt"
    with pytest.raises(UsageError) as caught, atomic_path(path):
        raise OSError(number, os.strerror(number))
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: ")
    assert words in message
    assert "\n" not in message
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_explained(tmp_path):
    with (
        pytest.raises(UsageError, match=r"cannot write .*a.txt: the disk is full: free some space"),
        atomic_path(tmp_path / "a.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")


def test_paths_that_cannot_be_are_explained(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, words in (
        (tmp_path / "file" / "a.txt", "a part of this path is a file"),
        (tmp_path / "none" / "a.txt", "its folder does not exist"),
        (tmp_path / "folder", "a folder of that name is in the way"),
        (tmp_path / ("n" * 256), "the name is too long"),
    ):
        with pytest.raises(UsageError, match=words):
            write_text(path, "x")
    assert names(tmp_path) == ["file", "folder"]


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(OSError, match="strange") as caught, explain_os_errors(tmp_path):
        raise OSError(errno.EIO, "strange")
    assert not isinstance(caught.value, UsageError)


def test_folders_are_made_with_their_parents_once(tmp_path):
    path = tmp_path / "a" / "b"
    assert make_folder(path) == path
    (path / "kept").write_text("x")
    make_folder(path)
    assert names(path) == ["kept"]


def test_a_file_in_the_way_of_a_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot write .*file: a file of that name is in the way"):
        make_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write .*b: a part of this path is a file"):
        make_folder(tmp_path / "file" / "b")


# JSON


@given(json_values)
def test_json_and_back_is_the_same(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_is_readable_for_people(tmp_path):
    write_json(tmp_path / "a.json", {"größe": [1]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "größe": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_say_is_refused_and_nothing_written(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, "old")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, [value])
    assert json.loads(path.read_text()) == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": 1} x', b"\xff\xfe", b"[" * 200_000, b"1" * 5000]
)
def test_a_file_that_is_no_json_is_one_clear_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path} is not valid JSON: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="cannot read .*none.json: No such file or directory"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot read .*: Is a directory"):
        read_json(tmp_path)


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    long = "a" * 100 + ".png"
    left = [".b.png.0123abcd.part", f".{'a' * 32}.0123abcd.part"]
    others = [".b.0123abcd.part", ".c.png.0123abcd.part", "b.png", "b.png.0123abcd.part"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    remove_partial([tmp_path / "b.png", tmp_path / long, tmp_path / "none.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
