"""Series on the command line: train, evaluate and predict for the tasks classify, regress and forecast."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minrnn.errors import UserError

from ._parse import parse
from ._series_tasks import Baselines, SeriesTask, Split, one_line, opened

if TYPE_CHECKING:
    from minrnn.series._saving import Estimator


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """What all three tasks have."""

    data: str
    """File of the series: .csv, .tsv or .parquet (a series in each row, or with --series a step in each row), .npz or
    .ts."""
    out: str
    """Run folder to create."""
    target: tuple[str, ...] = ()
    """Column of the label; by default the one named label, target, class or y."""
    series: str = ""
    """Column that names the series of each row, where a row is a step."""
    time: str = ""
    """Column that orders the rows of a series."""
    ignore: tuple[str, ...] = ()
    """Columns to leave out."""
    held_out: float = 0.2
    """Share of the series that is not learned from, for the figures at the end; 0 learns from all."""
    mixer: str = "mingru"
    """Mixer of the blocks, with its options, or a pattern of several (example: "minlstm")."""
    width: int = 64
    """Model width D."""
    layers: int = 2
    """How often the mixer is repeated."""
    conv: int = 4
    """Steps that the convolution before each mixer sees; 0 leaves it out."""
    mlp: float = 2.0
    """Hidden width of the MLP in each block as a multiple of the model width; 0 leaves it out."""
    dropout: float = 0.2
    """Share of activations dropped in training."""
    learning_rate: float = 3e-3
    """Highest learning rate of AdamW."""
    batch_size: int = 32
    """Series in one update."""
    early_stopping: bool = False
    """Keep the weights that are best on a tenth of what is learned from, and stop when they get no better."""
    seed: int = 0
    """Same seed, same network, same held-out part."""
    threads: int = 0
    """Processors to use; 0 all."""
    overwrite: bool = False
    """Replace the run that the folder --out holds already."""
    init: str = ""
    """Run folder to begin with, to fine-tune it: the weights, the scale and the shape of its network are taken."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held-out is {self.held_out:g}; expected 0 or more and less than 1")


@dataclass(frozen=True, kw_only=True)
class LabelOptions(SeriesOptions):
    """What the tasks with a label for each series have."""

    steps: int | None = None
    """Updates; by default 40 times the square root of the number of series, and 800 at least."""
    irregular: bool = False
    """Steps are not equally far apart: let the network know the time between them (needs --series and --time)."""
    one_direction: bool = False
    """Read each series from its start alone, not from both ends."""


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(LabelOptions):
    """Learn which class a time series is of, and write a run folder.

    Example:  minrnn train --task classify --data gestures.csv --target gesture --out runs/gestures

    Then:  minrnn evaluate runs/gestures;  minrnn predict runs/gestures --data new.csv --out answers.csv
    """

    task: Literal["classify"] = "classify"
    """classify, regress, forecast, or language (the default: minrnn train --help)."""
    balanced: bool = False
    """Let each class count the same, however many series it has."""


@dataclass(frozen=True, kw_only=True)
class RegressOptions(LabelOptions):
    """Learn which number belongs to a time series, and write a run folder.

    Example:  minrnn train --task regress --data engines.csv --target wear --out runs/engines
    """

    task: Literal["regress"] = "regress"
    """classify, regress, forecast, or language (the default: minrnn train --help)."""


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(SeriesOptions):
    """Learn how a time series goes on, with quantiles, and write a run folder.

    Example:  minrnn train --task forecast --data power.csv --horizon 24 --out runs/power

    A row is a step, a column a channel. The first column may hold dates.
    """

    task: Literal["forecast"] = "forecast"
    """classify, regress, forecast, or language (the default: minrnn train --help)."""
    horizon: int = 24
    """Steps to forecast."""
    context: int = 336
    """Steps that a forecast is made from."""
    target: tuple[str, ...] = ()
    """Columns to forecast; by default all that are not named otherwise."""
    known: tuple[str, ...] = ()
    """Columns that are known in advance (example: --known holiday price)."""
    static: tuple[str, ...] = ()
    """Columns of numbers with one value for each series (example: --static size latitude)."""
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    """Levels of the quantiles."""
    time: str = ""
    """Column of the times; by default the first where it holds dates."""
    held_out: float = 0.2
    """Share of each series, at its end, that is not learned from, for the figures at the end; 0 learns from all."""
    patch: int = 8
    """Steps that the network reads at once."""
    width: int = 32
    """Model width D."""
    layers: int = 1
    """How often the mixer is repeated."""
    steps: int = 1000
    """Updates."""
    learning_rate: float = 1e-3
    """Highest learning rate of AdamW."""
    batch_size: int = 128
    """Windows in one update."""


OPTIONS: dict[str, type[SeriesOptions]] = {
    "classify": ClassifyOptions,
    "regress": RegressOptions,
    "forecast": ForecastOptions,
}

SHAPE = ("mixer", "width", "layers", "bidirectional", "conv", "mlp", "patch", "context")
"""The settings that a network's weights belong to, but for its last layers."""
ANSWERS = ("horizon", "quantiles")
"""Those that its last layers belong to."""


def train(task: str, arguments: Sequence[str]) -> int:
    """Fit an estimator and write its run folder; 130, 143 or 129 where a signal ended it early, with what it had
    learned.
    """
    if task not in OPTIONS:
        raise UserError(f"--task is {task}; expected language, {', '.join(OPTIONS)}")
    options = parse(OPTIONS[task], "train", arguments)

    from minrnn.training._files import file_digest
    from minrnn.training._folder import RunFolder

    RunFolder(Path(options.out)).try_writing(options.overwrite)

    from minrnn.series._learning import stopping
    from minrnn.series._saving import save_estimator

    from .train import stop_signals

    estimator, noted = _begun(task, options)
    data = opened(task, options.data, noted)
    data.noted["sha256"] = file_digest(Path(options.data))
    print(data.summary, flush=True)
    with stop_signals() as received, stopping(lambda: bool(received)), one_line():
        data.fit(estimator)
    estimator.set_params(warm_start=False)
    save_estimator(estimator, options.out, overwrite=options.overwrite, data=data.noted)
    if received:
        print("stopped early; the run holds what was learned until then", file=sys.stderr)
        return 128 + received[0]
    if options.held_out:
        with one_line():
            print(f"held out: {data.figures(estimator, 'val').line}")
    print(f"it is in {options.out}; next: minrnn evaluate {options.out}")
    return 0


def evaluate(folder: str, source: str, split: Split, as_json: bool, picture: str, baselines: bool) -> int:
    """Print how good a run is on the part of its data that it was not trained on, or on another file; and beside it
    what simpler methods reach, which learn from what it was trained on, where that is still there.
    """
    from minrnn.training._files import file_digest, write_picture
    from minrnn.training._progress import display

    estimator, data = of_run(folder, source)
    original = Path(data.noted["data"])
    unchanged = original.is_file() and data.noted.get("sha256") == file_digest(original)
    if source:
        split = "all"
    elif split != "all" and not unchanged:
        raise UserError(
            f"{data.noted['data']} has changed since {folder} was trained on it, so that what was held out is not "
            "known; put the original back, or give it as --data to measure on all of it"
        )
    elif split == "val" and not data.noted["held_out"]:
        raise UserError(f"{folder} was trained on all of its data; give other --data, or --split all")
    learned = None
    elsewhere = source and file_digest(Path(source)) != data.noted.get("sha256")
    if baselines and unchanged and (elsewhere or split == "val"):  # what they have learned tells nothing
        learned = of_run(folder, "")[1] if source else data
    show = display()
    try:
        with one_line():
            figures = data.figures(estimator, split, Baselines(learned, show.busy) if learned is not None else None)
    finally:
        show.close()
    print(json.dumps(figures.values) if as_json else figures.text)
    if picture:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=120)
        figures.draw(figure)
        write_picture(Path(picture), figure)
    return 0


def predict(folder: str, source: str, out: str) -> int:
    """Write the answers for the series of a file."""
    from minrnn.training._files import replacing

    estimator, data = of_run(folder, source, labels=False)
    path = Path(out) if out else None
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out is {out}; expected a .csv or a .parquet file")
    with one_line():
        table = data.answers(estimator)
    if path is None:
        print(table.to_csv(index=False), end="")
        return 0
    with replacing(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
    print(f"{len(table):,} rows in {path}")
    return 0


def of_run(folder: str, source: str, labels: bool = True) -> tuple[Estimator, SeriesTask]:
    """A run's estimator, and the data it was trained on or other data of the same kind."""
    from minrnn.series._saving import load_estimator, task_of
    from minrnn.training._folder import RunFolder, read_config

    estimator = load_estimator(folder)
    noted = read_config(RunFolder(Path(folder))).get("data")
    noted = dict.fromkeys(("series", "time", "target"), "") | {"held_out": 0.0, "seed": 0, "data": ""} | (noted or {})
    if not (source or noted["data"]):
        raise UserError(f"{folder} does not say what it was trained on; give --data")
    noted["ignore_absent"] = True  # they are left out in any case
    noted["labelled"] = labels
    return estimator, opened(task_of(estimator), source or noted["data"], noted)


def _begun(task: str, options: SeriesOptions) -> tuple[Estimator, dict[str, Any]]:
    """What is to learn, fresh or from the run --init, and what `config.json` will note of the data."""
    from minrnn.series._saving import TASKS, load_estimator, task_of
    from minrnn.training._folder import RunFolder, read_config
    from minrnn.training._init import as_begun, check_apart

    noted, parameters = _noted(options), _parameters(options)
    kind = TASKS[task]
    if not options.init:
        return kind(**parameters), noted
    estimator = load_estimator(options.init)
    if not isinstance(estimator, kind):
        raise UserError(f"--init {options.init} is a run of --task {task_of(estimator)}; expected one of {task}")
    check_apart(options.init, options.out)
    begun = estimator.get_params()
    if noted.get("irregular", False) != (begun.get("time_channel") is not None):
        other = "with" if begun["time_channel"] is not None else "without"
        raise UserError(f"--init {options.init} was trained {other} --irregular; train {other} it")
    usual = _parameters(type(options)(data=options.data, out=options.out))
    shape = as_begun({name: begun[name] for name in SHAPE if name in begun}, parameters, usual, options.init)
    answers = {name: begun[name] for name in ANSWERS if name in begun and parameters[name] == usual[name]}
    estimator.set_params(**parameters | shape | answers | {"warm_start": True})
    taken = ", ".join(f"{name} {value}" for name, value in (shape | answers).items())
    print(f"beginning with {options.init}: {taken}")
    channels = (read_config(RunFolder(Path(options.init))).get("data") or {}).get("channels")
    return estimator, noted | ({"channels": channels} if channels and not noted.get("channels") else {})


def _noted(options: SeriesOptions) -> dict[str, Any]:
    """What `config.json` notes of the data."""
    names = ("series", "time", "ignore", "held_out", "seed")
    noted = {name: getattr(options, name) for name in names} | {"data": str(Path(options.data).absolute())}
    if isinstance(options, ForecastOptions):
        return noted | {"channels": options.target, "known": options.known, "static": options.static}
    if isinstance(options, LabelOptions):
        noted["irregular"] = options.irregular
        if options.irregular and not (options.series and options.time):
            raise UserError("--irregular needs --series and --time, the columns of the series' names and of the times")
    if len(options.target) > 1:
        raise UserError(f"--target names {len(options.target)} columns; expected the one of the labels")
    return noted | {"target": options.target[0] if options.target else ""}


def _parameters(options: SeriesOptions) -> dict[str, Any]:
    """Those of the estimator."""
    ours = {"task", "data", "out", "series", "time", "ignore", "target", "known", "static"}
    ours |= {"held_out", "overwrite", "init"}
    given = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in ours}
    given |= {"random_state": given.pop("seed"), "n_jobs": given.pop("threads") or -1, "verbose": True}
    if given.pop("irregular", False):
        given["time_channel"] = -1
    if "one_direction" in given:
        given["bidirectional"] = not given.pop("one_direction")
    if "balanced" in given:
        given["class_weight"] = "balanced" if given.pop("balanced") else None
    return given
