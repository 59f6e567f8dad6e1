"""What a person meets at the command line: help, results, and one clear line for each mistake."""

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minrnn.commands import COMMANDS, main
from minrnn.training import evaluate, load_run


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake gives."""
    capsys.readouterr()
    assert main(arguments) == 2
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("reading ")]
    assert output.out == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"minrnn {arguments[0]}: ")
    return lines[0]


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"  {command} " in output for command in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "demo"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert f"Example:  minrnn {command}" in output
    assert "(default:" in output
    assert "None" not in output


def test_train_says_how_good_the_model_is(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options, "--steps", "8", "--out", str(tmp_path / "run")]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("held-out ")
    assert f"minrnn generate {tmp_path / 'run'}" in output.out
    assert "step 8: held-out" in output.err
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert "is finished: 8 steps" in capsys.readouterr().err


def test_evaluate_prints_json(run: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_run(run)
    content = text.read_text()
    capsys.readouterr()
    for split, part in (("val", content[1800:]), ("train", content[:1800]), ("all", content)):
        assert main(["evaluate", str(run), "--data", str(text), "--split", split, "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        expected = evaluate(loaded.model, loaded.tokenizer.encode(part)).nats_per_token
        assert figures == {
            "nats_per_token": expected,
            "bits_per_character": pytest.approx(expected / math.log(2)),
            "tokens": len(part) - 1,
        }


def test_evaluate_takes_the_held_out_part_of_the_training_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert figures["nats_per_token"] == last["best_nats_per_token"]
    assert main(["evaluate", str(run)]) == 0
    assert f"{figures['nats_per_token']:.4f} nats per token" in capsys.readouterr().out


def test_generate_prints_the_prompt_and_the_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = ["generate", str(run), "--prompt", "sheep", "--tokens", "20", "--seed", "3"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("sheep")
    assert len(first) == len("sheep") + 20 + 1
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert main([*command, "--batch", "2"]) == 0
    assert capsys.readouterr().out.count("sheep") >= 2


MISTAKES = [
    ([], "--data STR --out STR"),
    (["--data", "x"], "Missing"),
    (["--steps", "ten"], "--steps"),
    (["--precision", "float8"], "--precision"),
    (["--steps", "3", "--wdth", "3"], "--wdth"),
    (["--steps", "3", "--minutes", "3"], "not both"),
    (["--steps", "3", "--dropout", "1.5"], "--dropout is 1.5"),
    (["--steps", "3", "--data", "nowhere"], "nowhere"),
    (["--steps", "3", "--pattern", "mingro*2"], "mingro"),
    (["--steps", "3", "--context", "1999"], "--context below 1800"),
    (["--steps", "3", "--tokens", "words"], "words"),
    (["--resume", "nowhere"], "nowhere"),
    (["--resume", "nowhere", "--width", "3"], "--width"),
]


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES)
def test_mistakes_in_train(
    arguments: list[str], problem: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*options, "--out", str(tmp_path / "run")] if "--steps" in arguments else []
    assert problem in said(capsys, "train", *given, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "characters"), (b"a", "characters"), (b"\xff\xfe" * 50, "UTF-8")],
    ids=["empty", "one character", "undecodable"],
)
def test_mistakes_in_the_text(
    content: bytes, problem: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    for arguments in (["train", "--out", str(tmp_path / "run"), "--steps", "3"], ["evaluate", str(run)]):
        line = said(capsys, *arguments, "--data", str(file))
        assert str(file) in line
        assert problem in line
    assert not (tmp_path / "run").exists()


def test_mistakes_elsewhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    for arguments, problem in (
        (["sing"], "there is no command 'sing'"),
        (
            ["train", "--out", str(tmp_path / "run"), "--steps", "3", "--data", str(tmp_path / "folder")],
            "no text files",
        ),
        (["generate"], "RUN"),
        (["generate", str(tmp_path)], "config.json"),
        (["generate", str(run), "--prompt", "ΩΩ"], "Ω"),
        (["generate", str(run), "--tokens", "-1"], "--tokens is -1"),
        (["generate", str(run), "--temperature", "-1"], "--temperature is -1"),
        (["evaluate", str(run), "--split", "test"], "test"),
        (["evaluate", str(run), "--data", "nowhere"], "nowhere"),
        (["demo", "--minutes", "0", "--out", str(tmp_path / "demo")], "how long"),
        (["demo", "--out", str(run)], "holds a run that is no demo"),
        (["generate", "x" * 300], "x" * 300),
        (["train", "--data", "python-docs", "--steps", "1", "--out", "x" * 300], "File name too long"),
        (
            ["train", "--data", "python-docs", "--steps", "1", "--width", f"{10**20}", "--out", str(tmp_path / "w")],
            "no model of",
        ),
    ):
        assert problem in said(capsys, *arguments)


def test_score(run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["score", str(run), "--text", "3 sheep"]) == 0
    total, bits, line = capsys.readouterr().out.rstrip("\n").split("\t")
    assert line == "3 sheep" and float(bits) == pytest.approx(-float(total) / np.log(2) / 7, abs=1e-3)
    (tmp_path / "lines.txt").write_text("3 sheep\n\nthe fence\n")
    vectors = tmp_path / "lines.npz"
    assert main(["score", str(run), "--data", str(tmp_path / "lines.txt"), "--json", "--embeddings", str(vectors)]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["log_probability"] == pytest.approx(float(total), abs=1e-3)
    assert "".join(second["tokens"]) == "the fence" and len(second["log_probabilities"]) == 9
    assert np.load(vectors)["embeddings"].shape == (2, 16)
    for words, complaint in (
        ([], "give --text or --data"),
        (["--text", "€"], "€"),
        (["--data", str(tmp_path / "none")], "cannot read"),
        (["--text", "a", "--state", str(vectors)], "damaged"),
    ):
        assert main(["score", str(run), *words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and complaint in lines[0]


def test_lines_are_those_between_newlines(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file as of a pipe, whatever else Unicode takes for the end of a line."""
    run = trained_on(tmp_path, "3 sheep\u2028jumped\x0cover; " * 90)
    content = "3 sheep\u2028jumped\r\n\nover\x0csheep\n".encode()
    (tmp_path / "lines.txt").write_bytes(content)
    capsys.readouterr()
    said = []
    for source in (str(tmp_path / "lines.txt"), "-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        assert main(["score", str(run), "--data", source, "--json"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    texts = [json.loads(line)["text"] for line in said[0].split("\n") if line]
    assert texts == ["3 sheep\u2028jumped", "over\x0csheep"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout(run: Path) -> None:
    for words in (["--help"], ["generate", str(run), "--tokens", "3"]):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "minrnn", *words]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and "No space left" in done.stderr


def trained_on(folder: Path, text: str, *words: str) -> Path:
    (folder / "text.txt").write_text(text)
    small = ["--pattern", "mingru", "--width", "8", "--context", "16", "--batch", "4", "--steps", "2", "--threads", "1"]
    assert main(["train", "--data", str(folder / "text.txt"), *small, *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("command", ["stream", "score"])
def test_bytes_that_are_no_text(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--data", "-"] if command == "score" else []

    def piped(run: Path, content: bytes) -> int:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        capsys.readouterr()
        return main([command, str(run), *words])

    assert piped(run, b"3 sheep\n\xff\n" if command == "score" else b"\xff\n") == 2
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1 and "line " in output.err and r"'\udcff' (U+DCFF)" in output.err
    assert len(output.out.splitlines()) == (1 if command == "score" else 0)  # what came before was answered
    assert piped(trained_on(tmp_path, "3 sheep; " * 200, "--tokens", "bytes"), b"3 sheep\n\xff\n") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("command", ["generate", "score"])
def test_words_that_are_no_text(command: str, tmp_path: Path) -> None:
    """A model of bytes continues any prompt; what no terminal can show stands there as on stderr."""
    run = trained_on(tmp_path, "caf\u00e9 " * 400, "--tokens", "bytes")
    words = {"generate": ["--tokens", "3", "--prompt"], "score": ["--text"]}[command]
    command_line: list[Any] = [sys.executable, "-m", "minrnn", command, str(run), *words, b"caf\xe9"]
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command_line, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stderr
    assert r"caf\udce9" in done.stdout


def test_figures_of_a_text_that_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, text = trained_on(tmp_path, "3 sheep jumped over the fence; " * 90), tmp_path / "text.txt"
    assert main(["evaluate", str(run), "--data", str(text)]) == 0
    text.write_text(text.read_text()[300:])
    for words in ([], ["--split", "train"], ["--data", str(text)]):
        assert "text.txt has changed since" in said(capsys, "evaluate", str(run), *words)
    assert main(["evaluate", str(run), "--split", "all"]) == 0
    (tmp_path / "other.txt").write_text(text.read_text())
    assert main(["evaluate", str(run), "--data", str(tmp_path / "other.txt")]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_extra_that_is_missing_is_named(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("minrnn.commands.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert said(capsys, command, "layers").endswith("it needs tyro: pip install 'minrnn[train]'")


def test_texts_branch_from_the_state_of_a_prompt(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(*words: str) -> str:
        assert main(["generate", str(run), "--tokens", "12", "--precision", "float32", *words]) == 0
        return capsys.readouterr().out.rstrip("\n")

    capsys.readouterr()
    state = str(tmp_path / "state.safetensors")
    whole = written("--prompt", "3 sheep jump")
    assert written("--prompt", "3 sheep", "--tokens", "0", "--save-state", state) == "3 sheep"
    assert "3 sheep" + written("--prompt", " jump", "--state", state) == whole
    assert main(["score", str(run), "--text", " jump", "--state", state]) == 0


def test_a_text_is_streamed_line_by_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("3 sheep\njumped over\n"))
    capsys.readouterr()
    # The tokenizer of this run has no newline: the first line says so.
    assert main(["stream", str(run)]) == 2
    assert "line 1: " in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("3 sheep jumped"))
    assert main(["stream", str(run)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert main(["score", str(run), "--text", "3 sheep jumped"]) == 0
    total = float(capsys.readouterr().out.split("\t")[0])
    assert answer["log_probability"] == pytest.approx(total, abs=1e-2)
    assert len(answer["likely"]) == 5 and sum(answer["likely"].values()) < 1
