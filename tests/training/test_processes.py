"""Two processes on loopback make the run that one process makes."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from minrnn.commands import main

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "minrnn"]


@pytest.fixture
def options(text: Path) -> list[str]:
    settings = {
        "--data": str(text),
        "--pattern": "mingru*1",
        "--width": "16",
        "--context": "16",
        "--batch": "8",
        "--warmup": "2",
        "--precision": "float32",
        "--threads": "1",
        "--evaluate-every": "8",
        "--checkpoint-every": "4",
    }
    return list(chain.from_iterable(settings.items()))


def start(command: list[str], *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # or torchrun says at length that it sets it
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)


def run(command: list[str], *arguments: str, code: int = 0) -> str:
    process = start(command, *arguments)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    return output + errors


def curve(folder: Path) -> list[tuple[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(name, value) for line in lines for name, value in line.items() if name in ("step", "loss", "held_out")]


def test_two_processes_follow_the_curve_of_one_through_a_kill(options: list[str], tmp_path: Path) -> None:
    options = [*options, "--steps", "100", "--dropout", "0"]
    assert main(["train", *options, "--out", str(tmp_path / "one")]) == 0
    two = tmp_path / "two"
    process = start(TWO, "train", *options, "--accumulate", "2", "--out", str(two))
    while not (two / "last.safetensors").exists():
        time.sleep(0.01)
        assert process.poll() is None
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], check=True, capture_output=True, text=True).stdout
    for worker in workers.split():
        os.kill(int(worker), signal.SIGKILL)
    process.communicate(timeout=300)
    output = run(TWO, "train", "--resume", str(two))
    assert output.count("going on after step") == 1  # one of the processes speaks
    whole, killed = curve(tmp_path / "one"), curve(two)
    assert [name for name, _ in whole] == [name for name, _ in killed]
    assert [value for _, value in whole] == pytest.approx([value for _, value in killed], abs=1e-5)


def test_one_process_says_what_is_wrong(options: list[str], tmp_path: Path) -> None:
    output = run(TWO, "train", *options, "--steps", "9", "--out", str(tmp_path / "run"), "--batch", "3", code=1)
    assert output.count("--batch 3 cannot be split evenly over 2 processes") == 1
    assert not (tmp_path / "run").exists()
