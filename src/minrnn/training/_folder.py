"""The run folder and its config.json. Nothing here needs torch, so a run is on disk before torch is imported."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minrnn.errors import UserError

from ._config import TrainConfig
from ._files import _flush, locked, names_in, read_json, write_json, write_text, writing

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

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them. What makes the folder a run comes first, then what makes it one that can be resumed."""
        return self.config, self.last, self.best, self.metrics, self.curve, self.tokenizer

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
        self._finish_moving()
        found = names_in(self.path)
        if is_run(self.path):
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

    def clear(self) -> None:
        """Remove what an earlier run left, but for its config.json; first what makes it one that can be resumed."""
        for file in self.files[1:]:
            file.unlink(missing_ok=True)

    def try_writing(self, overwrite: bool) -> None:
        """Raise UserError where `anew` would, before hours of learning; nothing is left of the trial."""
        self.is_free(overwrite)
        with self._rooms() as (new, _):
            write_text(new.config, "")

    @contextmanager
    def anew(self, overwrite: bool) -> Iterator[RunFolder]:
        """A folder to write a whole run to, whose files take the place of those of an earlier run here in the end.

        After an error the earlier run is what it was. Raises UserError as `is_free`, and for what cannot be written.
        """
        self.is_free(overwrite)
        with self._rooms() as (new, old):
            yield new
            with writing(self.path), locked(self.path):
                self._move_to(old)  # all that is old goes before anything new comes, so that nobody reads a mixture
                try:
                    new._move_to(self)
                except BaseException:
                    old._move_to(self)
                    raise
                _flush(self.path)
            shutil.rmtree(old.path, ignore_errors=True)

    def _move_to(self, other: RunFolder) -> None:
        """All files or, after an error, none."""
        moved: list[Path] = []
        try:
            for file in self.files:
                if file.exists():
                    os.replace(file, other.path / file.name)
                    moved.append(file)
        except BaseException:
            for file in moved:
                os.replace(other.path / file.name, file)
            raise

    def _finish_moving(self) -> None:
        """Where `anew` was killed between its moves: put back what is old, or if all of that was away, go on."""
        new, old = self._new, self._old
        if any(file.exists() for file in old.files):
            with writing(self.path), locked(self.path):
                (old if new.config.exists() else new)._move_to(self)

    @property
    def _new(self) -> RunFolder:
        return RunFolder(self.path / ".new.tmp")

    @property
    def _old(self) -> RunFolder:
        return RunFolder(self.path / ".old.tmp")

    @contextmanager
    def _rooms(self) -> Iterator[tuple[RunFolder, RunFolder]]:
        """Two folders inside this one, for what is new and for what is old, which go when they are empty or not needed;
        and with them this one, where it was made for them.
        """
        new, old = self._new, self._old
        made = not self.path.exists()
        try:
            with writing(self.path):
                for room in (new, old):
                    shutil.rmtree(room.path, ignore_errors=True)  # of a process that was killed
                    room.path.mkdir(parents=True)
            yield new, old
        finally:
            shutil.rmtree(new.path, ignore_errors=True)
            with suppress(OSError):  # not empty
                old.path.rmdir()
            if made:
                with suppress(OSError):
                    self.path.rmdir()


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


def is_run(folder: Path) -> bool:
    """Whether this is a run folder. Others have a config.json, too."""
    try:
        record = read_json(RunFolder(folder).config)
    except UserError:
        return False
    return isinstance(record, dict) and {"format", "minrnn"} <= record.keys()


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
