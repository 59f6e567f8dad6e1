"""A run folder that is truncated, foreign or tampered with: one line that names the file, and nothing is changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from minrnn.errors import UserError
from minrnn.training import TrainConfig, load_run, resume, train


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped after some steps, so that all its files matter."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 30)
    config = TrainConfig(
        data=str(folder / "text.txt"),
        out=str(folder / "run"),
        pattern="mingru*1",
        width=16,
        context=16,
        batch=4,
        steps=8,
        evaluate_every=2,
        checkpoint_every=2,
        precision="float32",
        ema=0.9,
    )
    calls = iter([False] * 8)
    train(config, should_stop=lambda: next(calls, True), quiet=True)
    assert (folder / "run" / "model.safetensors").is_file()
    return folder / "run"


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def noise(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 40)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Rewrite a safetensors file after a change, with its metadata."""

    def damage(file: Path) -> None:
        header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
        content = load_file(file)
        change(content)
        save_file(content, file, metadata=header["__metadata__"])

    return damage


def drop(content: dict[str, Any]) -> None:
    del content[next(name for name in content if name.endswith("head.weight"))]


def add(content: dict[str, Any]) -> None:
    content["extra"] = torch.zeros(3)


def reshape(content: dict[str, Any]) -> None:
    name = next(name for name in content if name.endswith("head.weight"))
    content[name] = content[name].T.contiguous()


def halve(content: dict[str, Any]) -> None:
    name = next(name for name in content if name.endswith("head.weight"))
    content[name] = content[name].bfloat16()


def poison(content: dict[str, Any]) -> None:
    name = next(name for name in content if name.endswith("head.weight"))
    content[name][0, 0] = float("nan")


def without_metadata(file: Path) -> None:
    file.write_bytes(save(load_file(file)))


def setting(**changes: Any) -> Callable[[Path], None]:
    """Rewrite config.json with other settings."""

    def damage(file: Path) -> None:
        record = json.loads(file.read_text())
        record["training"].update(changes)
        file.write_text(json.dumps(record))

    return damage


def field(**changes: Any) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


ANY = [Path.unlink, truncate, empty, noise, folder]
WEIGHTS = [*ANY, tensors(drop), tensors(add), tensors(reshape), tensors(halve), tensors(poison), without_metadata]
CONFIG = [
    *ANY,
    lambda file: file.write_text("[]"),
    lambda file: file.write_text('{"model": "gpt2"}'),
    field(format=2),
    field(vocabulary_size="many"),
    field(training=None),
    setting(colour="red"),
    setting(width="wide"),
    setting(width=0),
]
MISFIT = [setting(width=32), setting(width=10**5), setting(pattern="minlstm*1"), setting(mlp=0), setting(conv=0)]


def said(call: Callable[[], object], run: Path) -> str:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        call()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    return str(caught.value)


@pytest.mark.parametrize("damage", WEIGHTS)
def test_weights(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "model.safetensors")
    assert "model.safetensors" in said(lambda: load_run(run), run)
    assert "model.safetensors" in said(lambda: resume(run, quiet=True), run)


@pytest.mark.parametrize("damage", WEIGHTS[1:])
def test_checkpoint(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "last.safetensors")
    assert "last.safetensors" in said(lambda: resume(run, quiet=True), run)
    load_run(run)  # the best weights are still good


@pytest.mark.parametrize("damage", CONFIG)
def test_config(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "config.json")
    for call in (lambda: load_run(run), lambda: resume(run, quiet=True)):
        assert "config.json" in said(call, run)


@pytest.mark.parametrize("damage", MISFIT)
def test_config_of_another_model(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "config.json")
    assert "model.safetensors" in said(lambda: load_run(run), run)
    assert "put the original files back" in said(lambda: resume(run, quiet=True), run)


@pytest.mark.parametrize("damage", ANY)
def test_tokenizer(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "tokenizer.json")
    for call in (lambda: load_run(run), lambda: resume(run, quiet=True)):
        assert "tokenizer.json" in said(call, run)


def test_tokenizer_of_another_run(run: Path) -> None:
    field(vocabulary_size=99)(run / "config.json")
    for call in (lambda: load_run(run), lambda: resume(run, quiet=True)):
        assert "config.json says 99" in said(call, run)


def test_no_run_at_all(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        for call in (lambda path=path: load_run(path), lambda path=path: resume(path, quiet=True)):
            assert str(path) in said(call, tmp_path)
