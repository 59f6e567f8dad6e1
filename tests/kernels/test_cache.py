"""The cache of compiled kernels on disk: hits in a second process, and never a kernel that is not the one asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minrnn

STEP = """
import time, torch, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    start = time.perf_counter()
    from minrnn.recurrence import walk, backend
    from minrnn.kernels.walk import forward, backward
    names = {names!r}
    torch.manual_seed(0)
    errors = {{}}
    for name in names:
        x = torch.randn(1, 4, {{"mingru": 4, "minlstm": 6}}[name.partition("/")[0]], requires_grad=True)
        h, _ = walk(name, x)
        (dx,) = torch.autograd.grad(h.sum(), x)
        if name == names[0]:
            seconds = time.perf_counter() - start
        with backend("definition"):
            expected, _ = walk(name, x)
            (wanted,) = torch.autograd.grad(expected.sum(), x)
        errors[name] = max((h - expected).abs().max().item(), (dx - wanted).abs().max().item())
import json
kernels = [f for name in names for f in (forward(*name.split("/"), keep=False), backward(*name.split("/")))]
print(json.dumps({{
    "seconds": seconds, "errors": errors, "messages": [str(w.message) for w in caught],
    "hits": sum(sum(k.stats.cache_hits.values()) for k in kernels),
    "misses": sum(sum(k.stats.cache_misses.values()) for k in kernels),
}}))
"""


class Machine:
    """A copy of the package with its own cache, home and processes."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "minrnn"
        shutil.copytree(Path(minrnn.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.cache = folder / "cache"
        self.seconds: list[float] = []
        """Of each step so far; the first compiles."""
        home = str(folder / "home")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(self.cache),
            "HOME": home,
            "XDG_CACHE_HOME": home,
        }

    def command(self, *names: str, before: str = "") -> list[str]:
        return [sys.executable, "-c", before + STEP.format(names=names)]

    def step(self, *names: str, before: str = "") -> dict:
        """A first training step of each recurrence in a process of its own; `before` is code that runs first."""
        done = subprocess.run(
            self.command(*names, before=before), env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        self.seconds.append(result["seconds"])
        return result


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine whose cache holds the kernels of mingru/identity."""
    machine = Machine(tmp_path_factory.mktemp("used"))
    step = machine.step("mingru/identity")
    assert (step["hits"], step["misses"], step["messages"]) == (0, 2, [])
    assert step["errors"]["mingru/identity"] < 1e-6
    return machine


def test_a_second_process_compiles_nothing(used: Machine) -> None:
    step = used.step("mingru/identity")
    assert (step["hits"], step["misses"], step["messages"]) == (2, 0, [])
    assert used.seconds[-1] < used.seconds[0] / 3


def test_a_changed_helper_is_compiled_anew(used: Machine) -> None:
    helper = used.package / "kernels" / "_scalar.py"  # not the file of the kernel
    source = helper.read_text()
    changed = source.replace("    return one / (one + exp(-x))", "    return one / (one + one + exp(-x))")
    assert changed != source
    helper.write_text(changed)
    try:
        step = used.step("mingru/identity")
    finally:
        helper.write_text(source)
    assert step["misses"] == 2 and step["errors"]["mingru/identity"] > 1e-2


@pytest.mark.parametrize(("suffix", "size"), [("nbc", 1000), ("nbi", 100)])
def test_damaged_files_are_compiled_anew(used: Machine, suffix: str, size: int) -> None:
    damaged = list(used.cache.rglob(f"*.{suffix}"))
    assert len(damaged) >= 2
    for path in damaged:
        os.truncate(path, size)
    step = used.step("mingru/identity")
    assert step["misses"] == 2 and step["errors"]["mingru/identity"] < 1e-6


# Data files of kernels are larger than this, their indexes smaller: the disk is full in the midst of saving.
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
not_windows = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file size limit")


@not_windows
def test_a_full_disk_leaves_no_wrong_kernel(machine: Machine) -> None:
    machine.step("mingru/tanh")
    with (machine.package / "kernels" / "walk.py").open("a") as file:
        file.write("# a newer version\n")
    step = machine.step("mingru/identity", before=FULL_DISK)
    assert step["errors"]["mingru/identity"] < 1e-6
    assert len(step["messages"]) == 1 and "compiled anew" in step["messages"][0]
    step = machine.step("mingru/identity")
    assert step["errors"]["mingru/identity"] < 1e-6 and not step["messages"]


# Two processes whose writes interleave: index of one, index of the other, file of the other, file of the one.
SLOW_WRITER = """
import time
from numba.core.caching import IndexDataCacheFile as File
index, data = File._save_index, File._save_data
File._save_index = lambda self, *rest: (time.sleep({index}), index(self, *rest))
File._save_data = lambda self, *rest: (time.sleep({data}), data(self, *rest))
"""


def test_processes_that_compile_at_once_do_not_mix_their_kernels(machine: Machine) -> None:
    names = ("mingru/identity", "mingru/tanh")
    delays = ({"index": 0.6, "data": 1.2}, {"index": 0.9, "data": 0})
    children = [
        subprocess.Popen(machine.command(name, before=SLOW_WRITER.format(**delay)), env=machine.environment)
        for name, delay in zip(names, delays, strict=True)
    ]
    assert [child.wait(300) for child in children] == [0, 0]
    assert max(machine.step(*names)["errors"].values()) < 1e-6


def test_without_a_writable_folder_there_is_one_warning(machine: Machine) -> None:
    """Root may write anywhere, so that files stand where the folders would be."""
    machine.cache.touch()
    Path(machine.environment["HOME"]).touch()
    (machine.package / "kernels" / "__pycache__").touch()
    step = machine.step("mingru/identity", "minlstm/g")
    assert max(step["errors"].values()) < 1e-6
    assert len(step["messages"]) == 1
    assert "NUMBA_CACHE_DIR" in step["messages"][0]
