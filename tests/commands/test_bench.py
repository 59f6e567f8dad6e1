"""minrnn bench: what it prints and writes, and that it does not time what is wrong."""

import importlib.metadata
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from minrnn import timing
from minrnn.commands import _bench_layers, _bench_mixers, main
from minrnn.commands._contestants import Contestant, contestants
from minrnn.mixers import build
from minrnn.timing import interleaved_medians


@pytest.fixture(autouse=True)
def one_call_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SHORTEST", 0.0)
    monkeypatch.setattr(_bench_mixers, "WARM_UP", 0.0)


def test_layers_are_checked_timed_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, picture = tmp_path / "layers.json", tmp_path / "layers.png"
    words = ["--sizes", "2x9x8", "--lengths", "4", "8", "--repeats", "1", "--no-memory", "--json", str(record)]
    assert main(["bench", "layers", *words, "--picture", str(picture)]) == 0
    written = json.loads(record.read_text())
    (size,) = written["sizes"]
    assert (size["batch"], size["length"], size["width"]) == (2, 9, 8)
    rows = {row["name"]: row for row in size["rows"]}
    assert {"2 projections", "MinGRU (cpu)", "MinLSTM (logspace)", "nn.GRU", "nn.LSTM", "GRUCell loop"} <= rows.keys()
    assert all(row["milliseconds"] > 0 for row in rows.values())
    assert rows["MinGRU (cpu)"]["error"] < 1e-5
    assert [size["length"] for size in written["sweep"]] == [4, 8]
    assert written["versions"]["torch"] == importlib.metadata.version("torch")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "MinGRU (cpu)" in capsys.readouterr().out


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    peak = _bench_layers.in_new_process(
        "minrnn.commands._bench_layers", "2 projections", "64", "256", "64", "float32", "0"
    )
    output, gradient = 64 * 256 * 128 * 4, 64 * 256 * 64 * 4
    # Linux counts the pages of each thread in batches, so that the last quarter of a megabyte may be missing.
    assert peak is None or 0.9 * (output + gradient) <= peak < 4 * (output + gradient) + 30e6


def test_a_contestant_that_is_wrong_is_not_timed() -> None:
    right = next(row for row in contestants(8, torch.float32, peers=False) if row.name == "MinGRU (cpu)")
    wrong = Contestant("wrong", lambda x: 1.1 * right.call(x), right.parameters, right.reference)
    x = torch.randn(2, 9, 8, requires_grad=True)
    assert _bench_layers.check(right, x, 2e-2) < 1e-5  # type: ignore[operator]
    with pytest.raises(ValueError, match="wrong differs from its definition by"):
        _bench_layers.check(wrong, x, 2e-2)


def test_repeats_are_interleaved_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SHORTEST", 0.1)
    order: list[str] = []

    def run(name: str, seconds: float) -> None:
        time.sleep(seconds)
        order.append(name)

    runs = {"long": lambda: run("long", 0.2), "short": lambda: run("short", 0.03)}
    times = interleaved_medians(runs, 2, lambda text: None)
    assert times["long"] == pytest.approx(200, rel=0.3) and times["short"] == pytest.approx(30, rel=0.5)
    rounds = "".join(name[0] for name in order).replace("ll", "l").split("l")
    assert len(rounds) == 4 and all(2 <= len(short) <= 4 for short in rounds[1:])


def test_model(tmp_path: Path) -> None:
    record = tmp_path / "model.json"
    words = ["--pattern", "mingru*1", "--width", "8", "--batch", "2", "--context", "8", "--tokens", "30"]
    assert main(["bench", "model", *words, "--repeats", "1", "--json", str(record)]) == 0
    written = json.loads(record.read_text())
    assert written["step_milliseconds"].keys() >= {"model float32", "matrix products bfloat16"}
    assert set(written["tokens_per_second"]) == {
        f"{precision}, {when}" for precision in ("float32", "bfloat16") for when in ("at the start", "after 30 tokens")
    }


def test_calls(tmp_path: Path) -> None:
    record = tmp_path / "calls.json"
    words = ["--batch", "3", "--length", "9", "--width", "8", "--long", "100", "--repeats", "1"]
    assert main(["bench", "calls", *words, "--json", str(record)]) == 0
    written = json.loads(record.read_text())
    for part, name in (
        ("packed", "packed / padded, per real token"),
        ("bidirectional", "two / one"),
        ("single step", "MinGRU / nn.GRU, inference mode"),
        ("long", "recomputed / plain, time"),
    ):
        assert written[part][name] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layers", "--sizes", "4x32"], "--sizes has '4x32'; it takes BATCHxLENGTHxWIDTH"),
        (["layers", "--repeats", "0"], "--repeats is 0; it takes 1 or more"),
        (["boats"], "there is no benchmark 'boats'; there are layers, mixers, calls, series, stream, model"),
    ],
)
def test_mistakes_end_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_mixers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, picture = tmp_path / "mixers.json", tmp_path / "mixers.png"
    words = ["--mixers", "mingru", "rglru:heads=2", "--size", "2x9x8", "--lengths", "4", "8", "--repeats", "1"]
    assert main(["bench", "mixers", *words, "--json", str(record), "--picture", str(picture)]) == 0
    written = json.loads(record.read_text())
    ratios = {row["name"]: row for row in written["projections"]}
    assert set(ratios) == {"mingru", "rglru:heads=2", "nn.LSTM"}
    assert ratios["mingru"]["ratio"] > 0 and ratios["rglru:heads=2"]["error"] < 1e-4
    assert [set(row["milliseconds"]) for row in written["lengths"]] == [{"4", "8"}] * 2
    hidden, seen, window = 8 * 4, 8 * 4, 3 * 8 * 4
    assert [row["state_bytes"] for row in written["steps"]] == [8 * 4, hidden + seen + window]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "rglru:heads=2" in capsys.readouterr().out


def test_projections_of_a_mixer_are_all_its_linear_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        _bench_mixers, "forward_backward", lambda module, x: timed.append((*x.shape, *module(x).shape[-1:]))
    )
    _bench_mixers.projections(build("rglru", width=8, heads=2), 2, 3)
    assert sorted(timed) == [(2, 3, 8, 8), (2, 3, 8, 16), (2, 3, 8, 16)]


def test_a_mixer_that_is_wrong_is_not_timed() -> None:
    mixer = build("mingru", width=8)
    assert _bench_mixers.check("mingru", mixer) < 1e-5
    mixer.forward = lambda x, state=None, *, reset=None: (x, None) if x.dtype == torch.float32 else (2 * x, None)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="mingru differs from its definition by"):
        _bench_mixers.check("mingru", mixer)


def test_a_length_that_would_take_too_long_is_left_out() -> None:
    assert _bench_mixers.expected({}, [], 256) == 0
    assert _bench_mixers.expected({256: 10.0}, [256], 1024) == pytest.approx(0.04)
    assert _bench_mixers.expected({256: 10.0, 1024: 160.0}, [256, 1024], 4096) == pytest.approx(2.56)
    assert _bench_mixers.expected({256: 10.0}, [256, 1024], 4096) == float("inf")
    assert _bench_mixers.exponent({10: 1.0, 100: 10.0, 1000: 100.0}) == pytest.approx(1)


def test_unknown_mixers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "mixers", "--mixers", "mngru"]) == 2
    assert "--mixers has 'mngru': there is no mixer 'mngru' (did you mean 'mingru'?)" in capsys.readouterr().err


def test_series_stand_beside_their_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minrnn.series._estimator.updates", lambda series: 3)
    simpler = {"MiniRocket": np.full(1029, "1"), "too slow": None}
    monkeypatch.setattr("minrnn.series._baselines.label_baselines", lambda *arguments: simpler)  # compiles long
    record = tmp_path / "series.json"
    words = ["--data", "ItalyPowerDemand,ETTh1", "--seeds", "1", "--repeats", "0", "--json", str(record)]
    assert main(["bench", "series", *words]) == 0
    italy = json.loads(record.read_text())["ItalyPowerDemand"]
    assert italy["accuracy"].keys() == {"mingru", "commonest class", "MiniRocket"}
    assert italy["accuracy"]["mingru"] == italy["scores"][0]
    assert 0.49 < italy["accuracy"]["commonest class"] < 0.51  # 513 and 516 of 1,029
    assert 0.49 < italy["accuracy"]["MiniRocket"] < 0.51
    assert "ETTh1 is left out: --etth1 FILE names it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "gunpoint"], "--data has 'gunpoint'; it takes JapaneseVowels"),
        (["--data", "ETTh1", "--etth1", "nowhere.csv"], "--etth1 nowhere.csv cannot be read"),
        (["--seeds", "0"], "--seeds takes 1 or more"),
        (["--mixer", "minrgu"], "--mixer is 'minrgu': there is no mixer 'minrgu'"),
        (["--mixer", "mingru:heads=2"], "mixer 'mingru' has no option 'heads'"),
    ],
)
def test_series_that_will_not_do(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "series", *words]) == 2
    assert message in capsys.readouterr().err


def test_streams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "stream.json"
    words = ["--tasks", "classify,forecast", "--mixers", "mingru,qrnn", "--pushes", "100", "--json", str(record)]
    assert main(["bench", "stream", *words]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["classify", "mingru"]
    streams = json.loads(record.read_text())["streams"]
    assert [(one["task"], one["mixer"]) for one in streams[1:3]] == [("classify", "qrnn"), ("forecast", "mingru")]
    assert all(one["p99_ms"] >= one["median_ms"] > 0 and one["per_second"] > 0 for one in streams)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "sing"], "--tasks has 'sing'; it takes classify, forecast, text"),
        (["--mixers", "gro"], "--mixers has 'gro': there is no mixer 'gro'"),
        (["--pushes", "9"], "--pushes takes 100 or more"),
    ],
)
def test_streams_that_will_not_do(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stream", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_measurement_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"python -m minrnn\.commands\._bench_calls not-a-mixer failed: \w+"):
        timing.in_new_process("minrnn.commands._bench_calls", "not-a-mixer")
