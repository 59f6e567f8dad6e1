"""The run folder and its config.json. Nothing here needs torch, so a run is on disk before torch is imported."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ._config import TrainConfig
from ._files import read_json, write_json, writing

FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """Where each file of a run is."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def best(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curve(self) -> Path:
        return self.path / "loss.png"

    def claim(self, settings: Settings, overwrite: bool) -> bool:
        """Save `settings` here, so that the run can be resumed from now on; True where that was done.

        False where an earlier run may be replaced, which stays until the new one is ready. Raises UserError where
        beginning a run here would lose something.
        """
        if not self.is_free(overwrite):
            return False
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        settings.save(self)
        return True

    def is_free(self, overwrite: bool) -> bool:
        """Whether nothing is here; False for an earlier run that may be replaced.

        Raises UserError for one that may not, and for anything else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path} is a file; give a folder")
        found = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        if self.config.name in found:
            if not overwrite:
                raise UserError(
                    f"{self.path} holds a run already: go on with it (minrnn train --resume {self.path}), "
                    "give another --out, or --overwrite it"
                )
            return False
        if any(not name.endswith(".tmp") for name in found):
            raise UserError(f"--out {self.path} holds other files; give a new or an empty folder")
        return True

    def release(self) -> None:
        """Undo `claim`: the run could not begin."""
        self.config.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.path.rmdir()

    def begin_anew(self, overwrite: bool) -> None:
        """Make room for a run that is written at once, its config.json last: a folder without it is no run, so nothing
        reads one half replaced. Raises UserError as `is_free`.
        """
        self.is_free(overwrite)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.config.unlink(missing_ok=True)
        self.clear()

    def clear(self) -> None:
        """Remove what an earlier run left, but for its config.json; first what makes it one that can be resumed."""
        for file in (self.last, self.best, self.metrics, self.curve, self.tokenizer):
            file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Settings:
    """What `config.json` holds: the run's config, the run whose weights it begins with if there is one, and, once it
    has begun, two facts about its text.
    """

    config: TrainConfig
    vocabulary_size: int | None = None
    text_sha256: str | None = None
    init: str | None = None
    init_sha256: str | None = None

    def save(self, run: RunFolder) -> None:
        write_json(
            run.config,
            {
                **header(),
                "vocabulary_size": self.vocabulary_size,
                "text_sha256": self.text_sha256,
                "init": self.init,
                "init_sha256": self.init_sha256,
                "training": self.config.to_json(),
            },
        )

    @classmethod
    def load(cls, run: RunFolder) -> Settings:
        """Raises UserError for a folder that is no run, and for a config.json that was not written by `save`."""
        record = read_config(run)
        if task := record.get("task"):
            raise UserError(f"{run.path} holds a run of the task {task!r}; expected one of text")
        try:
            size, digest, training = record.get("vocabulary_size"), record.get("text_sha256"), record.get("training")
            facts = (type(size) is int and size > 0 and isinstance(digest, str)) or (size is None and digest is None)
            begun = [record.get(name) for name in ("init", "init_sha256")]
            if not (facts and isinstance(training, dict) and all(isinstance(one, str | None) for one in begun)):
                raise UserError("vocabulary_size, text_sha256, init or training is missing or of the wrong type")
            return cls(TrainConfig.from_json(training, str(run.path)), size, digest, *begun)
        except UserError as error:
            raise unfit_config(run, str(error)) from None


def header() -> dict[str, Any]:
    """What every config.json begins with."""
    return {"format": FORMAT, "minrnn": _version("minrnn"), "torch": _version("torch")}


def read_config(run: RunFolder) -> dict[str, Any]:
    """What `config.json` holds. Raises UserError for a folder that is no run, and for another format."""
    if not run.path.is_dir():
        raise UserError(f"there is no run folder {run.path}; minrnn train --out {run.path} makes one")
    if not run.config.is_file():
        raise UserError(f"{run.path} is no run folder: it has no config.json; start the run with minrnn train --out")
    record = read_json(run.config)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise unfit_config(run, f"its format is not {FORMAT}")
    return record


def is_of_series(folder: str) -> bool:
    """Whether a run was trained on time series. False for what is no run at all."""
    path = RunFolder(Path(folder)).config
    try:
        return bool(read_json(path).get("task"))
    except (UserError, AttributeError):
        return False


def unfit_config(run: RunFolder, reason: str) -> UserError:
    return UserError(f"{run.config} is not the config of a run: {reason}; put the original back")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"
