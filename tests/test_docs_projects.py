"""docs/projects names experiments, trials, commands, sources and figures that exist."""

import io
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from truemask.cli import parser
from truemask.compose import compose_config, options
from truemask.datasets import bdd100k, cityscapes, gta5
from truemask.datasets.voc import voc
from truemask.losses import CrossEntropy, Focal
from truemask.miniatures.writing import MINIATURES, write_miniature
from truemask.projects.project import Project
from truemask.projects.reproduce import PROJECTS
from truemask.sweeps.space import read_space

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((DOCS / "projects").glob("*.md"))}
WHOLE = "\n".join(PAGES.values())

IMAGE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")
LINK = re.compile(r"\[[^]]*\]\((?!http)([^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def commands(page: str) -> list[str]:
    """Each line of a page's shell blocks, and each whole command quoted in its text."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    quoted = re.findall(r"`(truemask [^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    return [line for block in blocks for line in block.splitlines() if line.strip()] + quoted


EVERY = [line for page in PAGES.values() for line in commands(page)]
TRAININGS = sorted({line for line in EVERY if line.startswith("truemask train")})


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = HEADING.findall(path.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def published(project: Project) -> list[str]:
    """Each published number as it may stand on a page: as it is, or in per cent."""
    found = []
    for trial in project.trials:
        for quantity, value in trial.published.items():
            percent = quantity.endswith("pixel_accuracy")
            found.append(f"{value * 100 if percent else value:.10g}")
    return found


def test_there_is_a_page_for_each_project_and_an_index() -> None:
    assert set(PAGES) == {"README", *PROJECTS}
    assert all(f"({name}.md)" in PAGES["README"] for name in PROJECTS)
    assert "TODO" not in WHOLE


def test_every_experiment_that_is_named_exists_and_each_is_named() -> None:
    named = {name for name in re.findall(r"experiment=([\w/.-]+)", WHOLE) if "/" in name}
    assert named == {name for name in options("experiment") if name.split("/")[0] in PROJECTS}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_page_names_all_trials_and_published_numbers(name: str) -> None:
    page, project = PAGES[name], PROJECTS[name]
    assert not [trial.name for trial in project.trials if f"`{trial.name}`" not in page]
    assert not [n for n in published(project) if not re.search(rf"(?<![\d.]){n}0*(?!\d)", page)]


@pytest.mark.parametrize("line", [line for line in EVERY if line not in TRAININGS])
def test_every_other_command_is_one(line: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] == "truemask"
    given = parser().parse_args(words[1:])
    if given.command == "sample":
        assert given.name in MINIATURES
    elif given.command == "reproduce" and given.project != "PROJECT":
        project = PROJECTS[given.project]
        chosen = [] if given.only is None else given.only.split(",")
        assert set(chosen) <= {trial.name for trial in project.trials}
        assert given.data is None or project.data is not None
        assert not given.words


@pytest.mark.parametrize("line", TRAININGS)
def test_every_training_composes(line: str) -> None:
    given = parser().parse_args(shlex.split(line, comments=True)[1:])
    assert given.command == "train"
    folders = [Path(word) for word in given.words if "=" not in word]
    words = [word for word in given.words if "=" in word]
    every = [words]
    if given.multirun:
        space = read_space(words)
        every = [space.whole(chosen) for chosen in space.grid()]
    for each in every:
        assert compose_config(each, folder=folders[0] if folders else None)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for link in LINK.findall(PAGES[name]):
        target, _, anchor = link.partition("#")
        path = (DOCS / "projects" / target).resolve() if target else DOCS / f"projects/{name}.md"
        assert path.is_file(), link
        assert not anchor or anchor in anchors(path), link


def test_every_figure_is_shown_once_and_small() -> None:
    shown = [Path(link).name for link in IMAGE.findall(WHOLE)]
    assert sorted(shown) == sorted(path.name for path in (DOCS / "images").glob("projects_*.png"))
    for name in shown:
        assert (DOCS / "images" / name).stat().st_size < 200_000, name


def test_the_pages_send_to_the_sources_that_the_datasets_name() -> None:
    for name, source in (
        ("driving", bdd100k.SOURCE),
        ("cityscapes", cityscapes.SOURCE),
        ("benchmarks", gta5.SOURCE),
    ):
        assert source.split()[0] in PAGES[name]


def test_losses_that_the_pages_quote() -> None:
    truth = torch.arange(21).reshape(1, 1, 21)
    perfect = torch.eye(21).reshape(1, 21, 1, 21)
    once, hundredfold = (Focal()(factor * perfect, truth) for factor in (1, 100))
    said = f"{once:.3f} for 21 such classes, and {hundredfold:.3f} for a hundred times"
    assert said in " ".join(PAGES["benchmarks"].split())
    zero = torch.zeros(1, 1, 1, 21)
    assert f"a logit of 0 is {CrossEntropy()(zero, (truth > 9).long()):.3f}" in PAGES["textures"]
    one_channel = torch.nn.CrossEntropyLoss()(torch.randn(1, 1, 1, 21), (truth[None] > 9).float())
    assert float(one_channel) == 0
    w = 27.03
    assert f"{math.log(2) * 2 * w / (w + 1):.3f}" in PAGES["edges"]


def test_counts_that_the_driving_page_quotes() -> None:
    counts = [int(n.replace(",", "")) for n in re.findall(r"\d{3},\d{3},\d{3}", PAGES["driving"])]
    counts, pixels = counts[:5], 3426 * 1280 * 720
    assert f"{100 * sum(counts) / pixels:.1f} % of all pixels" in PAGES["driving"]
    assert f"{(pixels / 6) / (sum(counts) / 5):.3f} times too large" in PAGES["driving"]


def test_what_jpeg_and_smooth_resizing_do_to_a_mask(tmp_path: Path) -> None:
    part = voc(write_miniature("voc2012", tmp_path / "voc", images=40))["train"]
    mask = np.asarray(part[part.names.index("2009_000087")].mask)
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=75)
    jpeg = np.asarray(Image.open(file))
    half = (mask.shape[1] // 2, mask.shape[0] // 2)
    smooth = np.asarray(Image.fromarray(mask).resize(half, Image.Resampling.BILINEAR))
    known = np.unique(mask)
    changed, unknown = (jpeg != mask).mean(), (~np.isin(smooth, known)).mean()
    said = re.search(
        r"75\) ([\d.]+) % of this.* its (\d+) values become (\d+);.* ([\d.]+) % of the.* are (\d+)",
        " ".join(PAGES["benchmarks"].split()),
    )
    assert said is not None
    found = (100 * changed, len(known), len(np.unique(jpeg)), 100 * unknown, len(np.unique(smooth)))
    # Another version of the JPEG library may round a few pixels otherwise.
    assert [float(n) for n in said.groups()] == pytest.approx(found, rel=0.05)
