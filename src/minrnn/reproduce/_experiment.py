"""What an experiment is: claims and rules written down before any run, cells that are run, and a judgement of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scale = Literal["smoke", "cpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)

Answer = Literal["holds", "holds in part", "does not hold", "undecidable at this scale", "not tested here"]

Watch = Callable[[float, str], None]
"""Told how much of a cell is done, 0 to 1, and a few words on how it stands."""


T = TypeVar("T")


@dataclass(frozen=True)
class ByScale(Generic[T]):
    """A value for each scale."""

    smoke: T
    cpu: T
    paper: T

    def __getitem__(self, scale: Scale) -> T:
        value: T = getattr(self, scale)
        return value


@dataclass(frozen=True)
class Published:
    """A figure that others published."""

    what: str
    value: str
    status: Literal["paper", "paper, unverified", "others", "others, unverified"] = "paper"


@dataclass(frozen=True)
class Cell:
    """What is run at once and has a file of its own: one model in one setting with one seed."""

    model: str
    seed: int
    setting: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # JSON; everything that decides the run
    alone: bool = False
    """Whether it is timed: then it has all threads, and nothing runs beside it. Others have one each, on every
    processor one.
    """

    @property
    def key(self) -> str:
        """Its name, which is that of its file."""
        return "-".join(re.findall(r"-?[\w.]+", f"{self.model} {self.setting} seed {self.seed}"))


@dataclass(frozen=True)
class Control:
    """A run whose outcome is known: without it a verdict says nothing."""

    what: str
    found: str
    met: bool


@dataclass(frozen=True)
class Verdict:
    """What the cells say of the claim."""

    answer: Answer
    because: str
    positive: Control
    negative: Control


@dataclass(frozen=True)
class Table:
    """Rows of text for the report."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Done:
    """A cell and what it gave."""

    cell: Cell
    result: Mapping[str, Any]


class Results:
    """The cells of an experiment that are done."""

    def __init__(self, done: Iterable[Done]) -> None:
        self._done = list(done)

    def __iter__(self) -> Any:
        return iter(self._done)

    def __len__(self) -> int:
        return len(self._done)

    def settings(self) -> list[str]:
        """Each once, in the order in which they ran."""
        return list(dict.fromkeys(one.cell.setting for one in self._done))

    def models(self, setting: str | None = None) -> list[str]:
        """Each once, in the order in which they ran; all, or those that ran in a setting."""
        return list(dict.fromkeys(model for of, model in self.pairs() if setting in (None, of)))

    def pairs(self) -> list[tuple[str, str]]:
        """Settings with the models that ran in them, in the order in which they ran."""
        return list(dict.fromkeys((one.cell.setting, one.cell.model) for one in self._done))

    def of(self, model: str, setting: str = "") -> list[Mapping[str, Any]]:
        """What the seeds of a model gave in a setting. Raises LookupError where there are none."""
        found = [one.result for one in self._done if (one.cell.model, one.cell.setting) == (model, setting)]
        if not found:
            raise LookupError(f"no cell of {model} {setting}".rstrip())
        return found

    def scores(self, model: str, setting: str = "", *, at: str) -> list[float]:
        """One entry of `result["scores"]` of each seed."""
        return [one["scores"][at] for one in self.of(model, setting)]


class Experiment(ABC):
    """One argument about the paper, and the runs that settle it.

    The class attributes are the text of the report; they, `cells` and `judge` are written before the run.
    """

    name: ClassVar[str]
    claim: ClassVar[str]
    source: ClassVar[str]
    published: ClassVar[Sequence[Published]] = ()
    differs: ClassVar[ByScale[str]]
    """What is not as published, at each scale."""
    minutes: ClassVar[ByScale[float]]
    """What all runs take on two cores, about; as measured where they are recorded."""
    rule: ClassVar[str]
    """When the claim holds; with a positive and a negative control."""

    flags: ClassVar[ByScale[str]] = ByScale("", "", "")
    """What its command needs beside name and scale."""
    packages: ClassVar[Sequence[str]] = ()
    """Distributions beside torch, numba and numpy whose versions bear on what is found."""

    def command(self, scale: Scale) -> str:
        """What runs it."""
        return f"minrnn reproduce {self.name} --scale {scale} {self.flags[scale]}".rstrip()

    def tuning(self, scale: Scale) -> Sequence[Cell]:
        """Cells that settle learning rates before the others run."""
        return ()

    @abstractmethod
    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        """All that is to be run, in the order in which it is."""

    @abstractmethod
    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        """What one cell gives, as JSON. Depends on `cell` alone."""

    @abstractmethod
    def judge(self, results: Results) -> Verdict:
        """The rule, applied to all cells of a scale."""

    @abstractmethod
    def table(self, results: Results) -> Table:
        """The figures of the report."""

    @abstractmethod
    def draw(self, results: Results, figure: Figure) -> None:
        """The picture of the report."""

    def verdict(self, results: Results) -> Verdict:
        """`judge`, unless a control is missed: then nothing can be said."""
        verdict = self.judge(results)
        if verdict.answer == "not tested here":
            return verdict
        for control in (verdict.positive, verdict.negative):
            if not control.met:
                because = f"control missed: {control.what}, found {control.found}. Measured: {verdict.because}"
                return Verdict("undecidable at this scale", because, verdict.positive, verdict.negative)
        return verdict
