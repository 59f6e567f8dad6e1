"""What a run leaves behind, and that stopping and going on changes none of it."""

import errno
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from minrnn.data._text import NAMED
from minrnn.errors import UserError
from minrnn.training import RunResult, TrainConfig, _files, evaluate, load_run, resume, train

Small = Callable[..., TrainConfig]
FILES = {"config.json", "tokenizer.json", "model.safetensors", "last.safetensors", "metrics.jsonl", "loss.png"}


def stop_at(call: int) -> Callable[[], bool]:
    """Says True from the given call on; it is called before each step and after each piece of an evaluation."""
    calls = itertools.count()
    return lambda: next(calls) >= call


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run without their times."""
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def same_run(one: str | Path, other: str | Path) -> None:
    for file in ("model.safetensors", "last.safetensors", "tokenizer.json"):
        assert (Path(one) / file).read_bytes() == (Path(other) / file).read_bytes(), file
    assert metrics(one) == metrics(other)


def test_leaves_a_whole_run_folder(small: Small) -> None:
    config = small()
    result = train(config, quiet=True)
    assert result.finished
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert (result.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    lines = metrics(result.folder)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "held_out" in line] == [4, 8, 12]


def test_learns_a_text_by_heart(small: Small) -> None:
    result = train(small(steps=150, width=32, learning_rate=0.02, dropout=0.0, evaluate_every=150), quiet=True)
    assert result.held_out is not None
    assert result.held_out.bits_per_character < 1.0  # even over the alphabet is 4.6


def test_a_run_in_bfloat16_says_nearly_the_same(small: Small) -> None:
    result = train(small(steps=60), quiet=True)
    exact, rounded = load_run(result.folder), load_run(result.folder, precision="bfloat16")
    assert {p.dtype for p in rounded.model.parameters()} == {torch.bfloat16}
    tokens = exact.tokenizer.encode(Path(exact.config.data).read_text()[:300])
    expected = evaluate(exact.model, tokens).nats_per_token
    assert evaluate(rounded.model, tokens).nats_per_token == pytest.approx(expected, rel=0.05, abs=0.01)
    _, state = rounded.model(torch.zeros(1, 3, dtype=torch.int64))
    assert state[0].mixer.h.dtype == torch.float32


def misleading(path: Path) -> None:
    """A text whose held-out part goes backwards: the better it is learned, the worse the evaluations."""
    path.write_text("abcdefgh" * 225 + "hgfedcba" * 25)


def test_keeps_the_best_weights_beside_the_newest(small: Small, text: Path) -> None:
    misleading(text)
    result = train(small(steps=40, learning_rate=0.03, evaluate_every=1), quiet=True)
    held_out = {line["step"]: line["held_out"] for line in metrics(result.folder) if "held_out" in line}
    best = min(held_out, key=lambda step: held_out[step])
    assert best < 40
    run = load_run(result.folder)
    text = Path(run.config.data).read_text()
    tokens = run.tokenizer.encode(text[int(0.9 * len(text)) :])
    assert evaluate(run.model, tokens).nats_per_token == held_out[best]
    assert result.held_out is not None
    assert result.held_out.nats_per_token == held_out[best]
    assert metrics(result.folder)[-1]["best_step"] == best


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "accumulate": 2, "precision": "bfloat16"}])
def test_going_on_changes_no_bit(small: Small, changes: dict[str, Any]) -> None:
    """Stopped at every third possible place: before any step, between steps, within evaluations."""
    whole = train(small("whole", **changes), quiet=True)
    for place in range(0, 17, 3):
        config = small(f"stopped{place}", **changes)
        stopped = train(config, should_stop=stop_at(place), quiet=True)
        assert not stopped.finished
        assert resume(config.out, quiet=True).finished
        same_run(whole.folder, config.out)


def test_going_on_step_by_step(small: Small) -> None:
    whole = train(small("whole"), quiet=True)
    config = small("steps")
    result = train(config, should_stop=stop_at(1), quiet=True)
    sittings = 0
    while not result.finished:
        result = resume(config.out, should_stop=stop_at(2), quiet=True)
        sittings += 1
    assert sittings >= 8
    same_run(whole.folder, config.out)


def test_lines_after_the_last_checkpoint_are_written_anew(small: Small) -> None:
    whole = train(small("whole"), quiet=True)
    config = small("killed")
    train(config, should_stop=stop_at(5), quiet=True)
    with (Path(config.out) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.0, "seconds": 1.0}\n{"step": 100, "lo')  # as a killed process leaves it
    resume(config.out, quiet=True)
    same_run(whole.folder, config.out)


def test_a_finished_run_says_so(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    config = small()
    train(config, quiet=True)
    before = {path.name: path.read_bytes() for path in Path(config.out).iterdir()}
    result = resume(config.out)
    assert result == RunResult(Path(config.out), 12, 12, True, None)
    assert "is finished: 12 steps" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path(config.out).iterdir()} == before


def test_a_run_without_a_checkpoint_starts_again(small: Small) -> None:
    whole = train(small("whole"), quiet=True)
    config = small("killed")
    train(config, should_stop=stop_at(2), quiet=True)
    for file in ("last.safetensors", "tokenizer.json"):
        (Path(config.out) / file).unlink()
    resume(config.out, quiet=True)
    same_run(whole.folder, config.out)


def test_minutes_fix_the_steps_before_the_first_checkpoint(small: Small) -> None:
    config = small("timed", steps=0, minutes=0.05, evaluate_every=50, checkpoint_every=10)
    timed = train(config, quiet=True)
    saved = json.loads((timed.folder / "config.json").read_text())["training"]
    assert saved["steps"] == timed.steps == timed.step > 5
    assert metrics(timed.folder)[-1]["step"] == timed.steps
    counted = train(small("counted", steps=timed.steps, evaluate_every=50), quiet=True)
    same_run(timed.folder, counted.folder)


def test_minutes_too_few_for_the_warmup_begin_again_with_a_shorter_one(small: Small) -> None:
    timed = train(small("timed", steps=0, minutes=0.01, warmup=10**6, evaluate_every=50), quiet=True)
    counted = train(small("counted", steps=timed.steps, warmup=10**6, evaluate_every=50), quiet=True)
    same_run(timed.folder, counted.folder)


def test_pieces_of_a_batch_follow_the_whole(small: Small) -> None:
    whole, pieces = (train(small(f"pieces{number}", accumulate=number, dropout=0.0), quiet=True) for number in (1, 4))
    for one, other in zip(metrics(whole.folder), metrics(pieces.folder), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_the_average_is_what_is_kept(small: Small) -> None:
    config = small(ema=0.99, steps=8, evaluate_every=8, checkpoint_every=8)
    folder = train(config, quiet=True).folder
    best, last = load_file(folder / "model.safetensors"), load_file(folder / "last.safetensors")
    for name, value in best.items():
        assert torch.equal(value, last[f"average.{name}"])
    assert not torch.equal(best["head.weight"], last["model.head.weight"])


def test_patience_ends_a_run_that_gets_no_better(small: Small, text: Path) -> None:
    misleading(text)
    config = small(steps=500, learning_rate=0.03, evaluate_every=1, patience=3)
    result = train(config, quiet=True)
    held_out = [line["held_out"] for line in metrics(result.folder) if "held_out" in line]
    assert result.finished
    assert result.step < 500
    assert held_out.index(min(held_out)) == len(held_out) - 4
    assert resume(config.out, quiet=True).finished


def test_divergence_is_said(small: Small) -> None:
    with pytest.raises(UserError, match=r"diverged at step \d+.*--learning-rate below 1e\+30"):
        train(small(learning_rate=1e30, clip=0.0, warmup=0, evaluate_every=100), quiet=True)


def test_an_earlier_run_is_not_replaced_unasked(small: Small) -> None:
    config = small()
    train(config, quiet=True)
    before = (Path(config.out) / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"holds a run already.*--resume.*--overwrite"):
        train(config, quiet=True)
    assert (Path(config.out) / "model.safetensors").read_bytes() == before
    train(replace(config, seed=1), overwrite=True, quiet=True)
    assert (Path(config.out) / "model.safetensors").read_bytes() != before


def test_a_run_that_cannot_begin_leaves_the_earlier_one(small: Small) -> None:
    config = small()
    train(config, quiet=True)
    before = {path.name: path.read_bytes() for path in Path(config.out).iterdir()}
    for change in ({"data": "nowhere"}, {"pattern": "nothing*2"}, {"context": 5000}):
        with pytest.raises(UserError):
            train(replace(config, **change), overwrite=True, quiet=True)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in Path(config.out).iterdir()} == before


@pytest.mark.parametrize(
    "change", [{"data": "nowhere"}, {"pattern": "nothing*2"}, {"context": 5000}, {"tokens": "words"}]
)
def test_a_run_that_cannot_begin_leaves_no_folder(small: Small, change: dict[str, Any]) -> None:
    config = small(**change)
    with pytest.raises(UserError):
        train(config, quiet=True)
    assert not Path(config.out).exists()


def test_a_run_does_not_read_itself(small: Small, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "text.txt").rename(tmp_path / "texts" / "text.txt")
    with pytest.raises(UserError, match=r"--out .* lies in the folder that is learned from; give one outside"):
        train(small("texts/run", data=str(tmp_path / "texts")), quiet=True)
    assert os.listdir(tmp_path / "texts") == ["text.txt"]
    train(small("texts/.runs/one", data=str(tmp_path / "texts")), quiet=True)  # what is hidden is not learned from


def test_other_files_are_not_mixed_with(small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds other files"):
            train(small(), overwrite=overwrite, quiet=True)
    assert os.listdir(tmp_path / "run") == ["letter.txt"]
    (tmp_path / "run" / "letter.txt").rename(tmp_path / "run" / "config.json")  # many programs have such a file
    with pytest.raises(UserError, match="holds other files"):
        train(small(), overwrite=True, quiet=True)
    assert (tmp_path / "run" / "config.json").read_text() == "dear"
    with pytest.raises(UserError, match="is a file"):
        train(small("text.txt"), quiet=True)


def test_one_run_one_process(small: Small) -> None:
    config = small()
    problems = []

    def second() -> bool:
        if not problems:
            with pytest.raises(UserError) as caught:
                resume(config.out, quiet=True)
            problems.append(str(caught.value))
        return False

    train(config, should_stop=second, quiet=True)
    assert "another process is writing" in problems[0]


def test_a_changed_text_is_noticed(small: Small, text: Path) -> None:
    config = small()
    train(config, should_stop=stop_at(5), quiet=True)
    text.write_text(text.read_text().replace("7", "8"))
    with pytest.raises(UserError, match="changed since"):
        resume(config.out, quiet=True)


def test_a_run_may_be_moved_and_resumed_from_anywhere(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(small("whole"), quiet=True)
    monkeypatch.chdir(tmp_path)
    train(small(data="text.txt"), should_stop=stop_at(5), quiet=True)
    os.rename("run", "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    resume("../moved", quiet=True)
    same_run(whole.folder, tmp_path / "moved")


@pytest.mark.parametrize("name", ["python-docs", "python-library", "shakespeare", "hf:sheep"])
def test_a_known_text_is_not_a_file_of_that_name(
    small: Small, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "part.txt").write_text("something else that happens to lie here; " * 50)
    known = "".join(f"{number} foxes slept, " for number in range(200))
    monkeypatch.chdir(tmp_path)
    if name.startswith("hf:"):
        monkeypatch.setattr("minrnn.data._text.load_huggingface", lambda source: known)
    else:
        monkeypatch.setitem(NAMED, name, lambda: known)
    run = load_run(train(small(data=name, steps=1), quiet=True).folder)
    assert run.config.data == name
    assert run.tokenizer.decode(range(run.tokenizer.vocabulary_size)) == "".join(sorted(set(known)))
    other = load_run(train(small("other", data=f"./{name}", steps=1), quiet=True).folder)
    assert other.config.data == str(tmp_path / name)


@pytest.mark.parametrize("file", ["model.safetensors", "last.safetensors", "metrics.jsonl", "loss.png"])
@pytest.mark.parametrize("when", ["write", "move"])
def test_a_full_disk_damages_nothing(small: Small, file: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for one file, from its second write on where there are several."""
    whole = train(small("whole"), quiet=True)
    config = small("full")
    times = itertools.count(1 if file in ("metrics.jsonl", "loss.png") else 0)
    flush, move = _files._flush, os.replace

    def full() -> bool:
        return next(times) >= 1

    def failing_flush(path: Path) -> None:
        if path.name == f".{file}.tmp" and full():
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    def failing_move(source: Path, target: Path) -> None:
        if target.name == file and full():
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, target)

    with monkeypatch.context() as patch:
        if when == "write":
            patch.setattr(_files, "_flush", failing_flush)
        else:
            patch.setattr("os.replace", failing_move)
        with pytest.raises(UserError, match=rf"cannot write .*{file}: the disk is full"):
            train(config, quiet=True)
    assert not [path for path in Path(config.out).iterdir() if path.name.endswith(".tmp")]
    resume(config.out, quiet=True)
    same_run(whole.folder, config.out)
