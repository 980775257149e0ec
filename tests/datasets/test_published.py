"""Published datasets that are given as plain folders are known, and how to read them is told."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from truemask.cli import main
from truemask.compose import compose_config
from truemask.datasets.folder import folder
from truemask.datasets.published import published_hint
from truemask.errors import UsageError
from truemask.miniatures.writing import write_miniature
from truemask.training.opening import open_parts
from truemask.training.settings import DataSettings

GROUPS = {
    "voc2012": "voc", "voc2007": "voc", "bdd100k": "bdd100k", "cityscapes": "cityscapes",
    "camvid32": "camvid", "bsds500": "bsds500", "oxford_pet": "oxford_pet",
    "gta5": "gta5",
}  # fmt: skip


@pytest.fixture(scope="module", params=GROUPS)
def miniature(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / request.param
    return write_miniature(request.param, root, images=10)


def test_the_words_of_the_hint_open_it_and_the_error_tells_them(miniature: Path) -> None:
    hint = published_hint(miniature)
    words = re.findall(r"data\S*=\S+", hint)
    assert f"data={GROUPS[miniature.name]}" in words
    data = compose_config(words)["data"]
    parts, _ = open_parts(DataSettings(**data))
    assert sum(map(len, parts.values())) == 10
    try:
        told = list(folder(miniature).notes)
    except UsageError as error:
        told = [str(error)]
    (line,) = [line for line in told if hint[1:] in line]
    assert "\n" not in line


def test_a_folder_of_one_s_own_is_no_published_dataset(tmp_path: Path) -> None:
    write_miniature("folder", tmp_path / "own", images=10)
    assert published_hint(tmp_path / "own") == ""
    assert not any("looks like" in note for note in folder(tmp_path / "own").notes)
    (tmp_path / "none" / "images" / "10k").mkdir(parents=True)
    assert published_hint(tmp_path / "none") == ""


def test_views_of_one_car_do_not_fall_into_several_parts_unsaid(tmp_path: Path) -> None:
    root = write_miniature("carvana", tmp_path / "my cars", images=64)
    (note,) = [note for note in folder(root).notes if "looks like" in note]
    # As a shell takes the words that are copied from it, spaces and all.
    words = shlex.split(note.partition("known: ")[2])
    assert words == ["data=carvana", f"data.dataset.root={root}"]
    parts, _ = open_parts(DataSettings(**compose_config(words)["data"]))
    cars = [{name.split("_")[0] for name in part.names} for part in parts.values()]
    assert sum(map(len, cars)) == len(set().union(*cars)) > 1
    for file in (root / "train").iterdir():
        file.rename(file.with_name(f"my_{file.name}"))
    assert published_hint(root) == ""


def test_numbered_files_alone_are_no_game(tmp_path: Path) -> None:
    root = write_miniature("gta5", tmp_path / "game", images=10)
    assert "data=gta5" in published_hint(root)
    for file in (root / "labels").iterdir():
        Image.new("L", (8, 8)).save(file)
    assert published_hint(root) == ""
    for file in (root / "labels").iterdir():
        file.write_bytes(b"no image")
    assert published_hint(root) == ""


@pytest.mark.parametrize("command", ["survey", "train"])
def test_commands_tell_it_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_miniature("bdd100k", tmp_path / "bdd", images=10)
    assert main([command, str(root)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"data=bdd100k data.dataset.root={root}" in line
