"""Every command that the pages print is one that the command line takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from minrnn.commands._bench_calls import BenchCallsOptions
from minrnn.commands._bench_layers import BenchLayersOptions
from minrnn.commands._bench_mixers import BenchMixersOptions
from minrnn.commands._bench_model import BenchModelOptions
from minrnn.commands._bench_series import BenchSeriesOptions
from minrnn.commands._bench_stream import BenchStreamOptions
from minrnn.commands._parse import parse
from minrnn.commands._series import OPTIONS as OF_TASKS
from minrnn.commands.evaluate import EvaluateOptions
from minrnn.commands.export import ExportOptions
from minrnn.commands.generate import GenerateOptions
from minrnn.commands.inspect import InspectOptions
from minrnn.commands.predict import PredictOptions
from minrnn.commands.reproduce import ReproduceOptions
from minrnn.commands.score import ScoreOptions
from minrnn.commands.stream import StreamOptions
from minrnn.commands.train import ResumeOptions, TrainOptions

ROOT = Path(__file__).parents[2]
OPTIONS: dict[str, type[Any]] = {
    "bench calls": BenchCallsOptions,
    "bench layers": BenchLayersOptions,
    "bench mixers": BenchMixersOptions,
    "bench model": BenchModelOptions,
    "bench series": BenchSeriesOptions,
    "bench stream": BenchStreamOptions,
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "generate": GenerateOptions,
    "inspect": InspectOptions,
    "predict": PredictOptions,
    "reproduce": ReproduceOptions,
    "score": ScoreOptions,
    "stream": StreamOptions,
}
COMMANDS = sorted(
    {
        (page.relative_to(ROOT).as_posix(), match.strip())
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "results").glob("*/README.md"))
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)
        if language in ("bash", "")
        for match in re.findall(rf"\bminrnn ((?:train|{'|'.join(OPTIONS)}) [^\n#|]+)", block)
        if "..." not in match
    }
)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command(page: str, command: str) -> None:
    name = next((name for name in OPTIONS if command.startswith(name)), "train")
    words = shlex.split(command)[len(name.split()) :]
    kind = OPTIONS.get(name)
    if kind is None:
        task = words[words.index("--task") + 1] if "--task" in words else "language"
        kind = ResumeOptions if "--resume" in words else OF_TASKS.get(task, TrainOptions)
    parse(kind, name, words)  # raises UserError


def test_all_pages_have_some() -> None:
    assert {"README.md", "docs/classification.md", "docs/forecasting.md", "docs/devices.md"} <= {
        page for page, _ in COMMANDS
    }
