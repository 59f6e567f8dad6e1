"""Ctrl-C in the middle of an experiment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "minrnn", "reproduce", "filters", "--scale", "cpu", "--results", str(tmp_path)]
    finished = tmp_path / "filters" / "cpu" / "cells" / "mingru-seed-0.json"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while "at most" not in str(process.stderr.readline() if process.stderr else ""):
        assert process.poll() is None and time.monotonic() < deadline
    time.sleep(6)  # the workers have begun
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of the group
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert not finished.exists() or json.loads(finished.read_text())
    assert not [path for path in finished.parent.iterdir() if path.name.endswith(".tmp")]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # nobody of the group is left, once multiprocessing's own helper has noticed
            os.killpg(process.pid, 0)
            time.sleep(0.1)
