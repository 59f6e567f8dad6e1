"""Processes that are stopped, killed, or cut off from their reader."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minrnn.commands import main


def start(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "minrnn", *arguments], stdout=pipe, stderr=pipe, text=True)


def wait_for(process: subprocess.Popen[str], file: Path) -> None:
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the runs of this file come to when nothing happens to them."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", *options, "--steps", "200", "--out", str(folder)]) == 0
    return folder


def same(one: Path, other: Path) -> None:
    for file in ("model.safetensors", "last.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_killed_at_any_moment(options: list[str], whole: Path, tmp_path: Path) -> None:
    """Each sitting lives up to half a second from its first change to the folder, so kills fall between writes too."""
    folder = tmp_path / "run"
    process = start("train", *options, "--steps", "200", "--out", str(folder))
    wait_for(process, folder / "config.json")  # from here on the run can be resumed
    chance = random.Random(0)
    for sitting in range(4):
        if sitting:
            before = (folder / "metrics.jsonl").stat().st_mtime_ns if (folder / "metrics.jsonl").exists() else None
            process = start("train", "--resume", str(folder))
            while process.poll() is None:
                file = folder / "metrics.jsonl"
                if file.exists() and file.stat().st_mtime_ns != before:
                    break
                time.sleep(0.005)
        time.sleep(chance.random() * 0.5)
        process.kill()
        process.communicate()
    assert main(["train", "--resume", str(folder)]) == 0
    same(whole, folder)
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_by_a_signal(number: int, code: int, options: list[str], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start("train", *options, "--steps", "200", "--out", str(folder))
    wait_for(process, folder / "metrics.jsonl")
    time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert errors.rstrip().endswith(f"go on with: minrnn train --resume {folder}")
    assert (folder / "loss.png").exists()
    assert main(["train", "--resume", str(folder)]) == 0
    same(whole, folder)


def test_handlers_are_put_back(options: list[str], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["train", *options, "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stream_whose_terminal_is_closed_saves_its_state(options: list[str], tmp_path: Path) -> None:
    run, state = tmp_path / "run", tmp_path / "state.safetensors"
    assert main(["train", *options, "--tokens", "bytes", "--steps", "3", "--out", str(run)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "minrnn", "stream", str(run), "--state", str(state)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("3 sheep\n")
    process.stdin.flush()
    assert process.stdout.readline()
    before = state.read_bytes()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=300)
    assert process.returncode == 129
    assert state.read_bytes() != before  # it has read the line


def test_generate_writes_as_it_goes_and_stops_with_its_reader(run: Path) -> None:
    process = start("generate", str(run), "--tokens", "1000000")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(10)  # long before the last of a million
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_help_imports_next_to_nothing() -> None:
    code = """import sys, minrnn
before = set(sys.modules)
minrnn_commands = __import__("minrnn.commands").commands
minrnn_commands.main(["--help"])
print(*(set(sys.modules) - before))"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    modules = set(output.splitlines()[-1].split())
    assert not modules & {"torch", "tyro", "rich", "safetensors", "matplotlib", "minrnn.training", "minrnn.data"}
