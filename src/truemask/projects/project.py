"""What a published project is made of: its trials, what was published of them, its figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rich.console import Console

from truemask.analysis.charts import Chart
from truemask.labels import LabelMap
from truemask.report.pictures import Picture
from truemask.runs import Run

Runs = Mapping[str, Run]
"""Name of a trial -> its finished run; a trial without one is missing."""

Column = Literal["published", "corrected"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure that a training does not leave by itself: an evaluation, written into the run.

    Attributes:
        name: the run then holds `evaluation-<name>.json`.
        make: writes it.
        needs_data: whether it reads the run's data, which a run from elsewhere may not have here.
    """

    name: str
    make: Callable[[Run, Console], None]
    needs_data: bool = True


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a project.

    Attributes:
        name: of its folder; no two trials of a project share one.
        title: as the table calls it.
        experiment: the file in `configs/experiment/`.
        overrides: what is changed in it.
        column: whether it has the settings that were published, or those that mend them.
        of: of a corrected trial, the published one that it stands beside in the table.
        published: quantity (see `quantities.py`) -> what was published.
        bars: quantity -> how far ours may lie from it, as a share of it.
        also: quantities to show of which nothing was published.
        note: what a reader must know to compare.
        small: overrides that make it small, for a miniature of the data.
        images: how many images the published training part had; a run with another number is not
            compared. `None` where the data is generated.
        data: folder of its data within the folder that the user gives, the first that is there;
            that folder itself where none is.
        measures: evaluations beyond those of every training.
    """

    name: str
    title: str
    experiment: str
    overrides: tuple[str, ...] = ()
    column: Column = "published"
    of: str | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    note: str = ""
    small: tuple[str, ...] = ()
    images: int | None = None
    data: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()

    @property
    def quantities(self) -> tuple[str, ...]:
        """All that the table shows of it."""
        return (*self.published, *self.also)


@dataclass(frozen=True)
class Panel:
    """Pictures in a row, each with its name."""

    name: str
    note: str
    pictures: tuple[tuple[str, Picture], ...]


@dataclass(frozen=True)
class Panels:
    """Rows of pictures; `labels` gives the legend of their colours."""

    kind: ClassVar = "panels"
    panels: tuple[Panel, ...]
    labels: LabelMap | None = None


@dataclass(frozen=True)
class Listing:
    """A table of texts, the first column naming the rows."""

    kind: ClassVar = "listing"
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Content = Chart | Panels | Listing


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of a project.

    Attributes:
        name: its anchor in the page.
        title: its heading.
        caption: what is to be seen, in a sentence or two.
        draw: makes it of the finished runs; `None` where what it shows is not there.
        compares: whether it draws published values too, so that it is left out where ours cannot
            be held against them.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Runs], Content | None]
    compares: bool = False


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """Small data in the project's own format.

    Attributes:
        dataset: as `truemask sample` calls it, one of `MINIATURES`.
        images: how many to make.
    """

    dataset: str
    images: int


@dataclass(frozen=True, kw_only=True)
class Project:
    """A published project.

    Attributes:
        name: as the command line calls it.
        title: what it is about.
        text: what was done, and what fooled its author, a paragraph each.
        trials: in the order in which they are trained.
        figures: in the order in which they are shown.
        data: what the folder of the user must hold; `None` where the data is generated.
        miniatures: folder within that folder -> small data to put there in its place.
        small: overrides that make every trial as small as that data.
    """

    name: str
    title: str
    text: tuple[str, ...]
    trials: tuple[Trial, ...]
    figures: tuple[Figure, ...]
    data: str | None = None
    miniatures: Mapping[str, Miniature] = field(default_factory=dict)
    small: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [trial.name for trial in self.trials]
        assert len(set(names)) == len(names), "two trials of one name would share a folder"
        assert {trial.of for trial in self.trials} <= {None, *names}
