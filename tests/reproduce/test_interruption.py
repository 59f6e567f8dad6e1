"""A signal in the middle of an experiment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143), (os.kill, signal.SIGKILL, -9)],
    ids=["Ctrl-C", "terminated", "killed"],
)
def test_what_is_finished_is_kept_and_no_process_stays_behind(
    send: Callable[[int, int], None], number: int, code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "minrnn", "reproduce", "filters", "--scale", "cpu", "--results", str(tmp_path)]
    finished = tmp_path / "filters" / "cpu" / "cells" / "mingru-seed-0.json"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while "cells to run" not in str(process.stderr.readline() if process.stderr else ""):
        assert process.poll() is None and time.monotonic() < deadline
    time.sleep(6)  # the workers have begun
    send(process.pid, number)  # a terminal sends Ctrl-C to all of the group, others send theirs to one process
    _, said = process.communicate(timeout=300)
    assert process.returncode == code and "Traceback" not in said
    assert not finished.exists() or json.loads(finished.read_text())
    assert not [path for path in finished.parent.iterdir() if path.name.endswith(".tmp")]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # nobody of the group is left, once multiprocessing's own helper has noticed
            os.killpg(process.pid, 0)
            time.sleep(0.1)
