"""All models are treated alike: what is said before the runs, as many trials, as many parameters."""

from __future__ import annotations

import json

import pytest
import torch

from minrnn.reproduce import inference, load, names, speed
from minrnn.reproduce._contest import Contest, grid
from minrnn.reproduce._experiment import SCALES, Cell, Done, Results, Scale
from minrnn.reproduce._fit import Fit

from .conftest import cells_of

OVER_BUDGET = {
    "selective-copy": 236,
    "long-range": 95,
    "shakespeare": 235,
    "recall": 80,
    "scaling": 116,
    "chomsky": 200,
}
"""Minutes of those that were found to take longer than the 75 that one is to take at scale cpu."""


@pytest.mark.parametrize("name", names())
def test_every_experiment_says_all_that_it_must_before_it_runs(name: str) -> None:
    experiment = load(name)
    assert experiment.name == name
    assert experiment.claim and experiment.source and "Positive control" in experiment.rule
    assert "Negative control" in experiment.rule
    for scale in SCALES:
        assert experiment.differs[scale] and experiment.minutes[scale] > 0
    longest = OVER_BUDGET.get(name, 75)
    assert experiment.minutes["smoke"] <= 1 and experiment.minutes["cpu"] <= longest
    for scale in SCALES[:2]:
        cells = [*experiment.tuning(scale), *cells_of(experiment, scale)]
        assert len({cell.key.lower() for cell in cells}) == len(cells)  # a file each, on any file system
        for cell in cells:
            assert json.loads(json.dumps(dict(cell.options))) == dict(cell.options)


EQUALS = {
    "selective-copy": {"gru": "mingru 3 layers", "lstm": "mingru 3 layers"},
    "gates": {"MLP,": "linear"},
    "gradients": {"gru": "mingru", "lstm": "minlstm"},
    "recall": {"gru": "mingru"},
    "state-tracking": {"gru": "mingru"},
    "long-range": {"gru": "mingru", "lstm": "minlstm"},
    "energy": {"gru": "mingru", "lstm": "mingru"},
}
"""Whose parameters a rival has that is called so and "equal parameters"."""


@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize("name", EQUALS)
def test_rivals_of_equal_parameters_have_as_many(name: str, scale: Scale) -> None:
    experiment = load(name)
    assert isinstance(experiment, Contest)
    fit = next(iter(experiment.settings(scale).values()))
    patterns = {one.name: one for one in experiment.contestants(scale)}
    equal = {f"{rival} equal parameters": whose for rival, whose in EQUALS[name].items()}
    assert {one for one in patterns if "equal parameters" in one} == set(equal)

    def size(of: str) -> int:
        return size_of(experiment.fresh(patterns[of].fit(fit, grid(patterns[of].pattern)[0]), 0))

    for rival, whose in equal.items():
        assert size(rival) == pytest.approx(size(whose), rel=0.05)


def test_rivals_of_equal_parameters_that_are_timed_have_as_many() -> None:
    x = torch.randn(1, 2, 64)
    for rival, minimal in zip(speed.NARROW, ("minGRU", "minLSTM"), strict=True):
        sizes = [size_of(speed.Step(name, x).layer) for name in (rival, minimal)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    for rival, minimal in zip(inference.EQUAL_PARAMETERS, ("mingru", "minlstm"), strict=True):
        sizes = [size_of(inference.build_mixer(name, 256)) for name in (rival, minimal)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def size_of(model: torch.nn.Module) -> int:
    """Its parameters."""
    return sum(weight.numel() for weight in model.parameters())


def test_every_model_has_as_many_trials_and_the_best_is_taken() -> None:
    experiment = load("selective-copy")
    assert isinstance(experiment, Contest)
    tuning = experiment.tuning("cpu")
    families = {cell.model for cell in tuning}
    assert len(tuning) == 4 * len(families)
    best = grid("mingru:forget_bias=?")[1]
    tuned = Results(
        Done(cell, {"losses": {"held out": 0.1 if cell.setting == best.setting("") else float("nan")}})
        for cell in tuning
    )
    for cell in experiment.cells("cpu", tuned):
        if "mingru" in cell.model:
            fit = Fit.from_json(cell.options)
            assert fit.learning_rate == best.learning_rate and f"forget_bias={best.forget_bias}" in fit.pattern
    assert "?" not in "".join(Fit.from_json(cell.options).pattern for cell in experiment.cells("cpu", tuned))


def test_a_setting_with_trials_of_its_own_is_tuned_by_them() -> None:
    experiment = load("chomsky")
    tuning = experiment.tuning("cpu")
    best = {"parity": grid("mamba")[0], "majority": grid("mamba")[3]}

    def loss(cell: Cell) -> float:
        return 0.1 if any(cell.setting == one.setting(of) for of, one in best.items()) else 1.0

    tuned = Results(Done(cell, {"losses": {"held out": loss(cell)}}) for cell in tuning)
    rates = {
        cell.setting: cell.options["learning_rate"] for cell in experiment.cells("cpu", tuned) if cell.model == "mamba"
    }
    assert {of: rates[of] for of in best} == {of: one.learning_rate for of, one in best.items()}


def test_what_sets_a_model_apart_does_so_in_its_trials_too() -> None:
    experiment = load("shakespeare")
    cells = [*experiment.tuning("cpu"), *cells_of(experiment)]
    plain = [cell.options["conv"] for cell in cells if cell.model == "attention, plain block"]
    assert len(plain) > 4 and set(plain) == {0}
    assert {cell.options["conv"] for cell in cells if cell.model == "attention"} == {4}


def test_published_learning_rates_hold_at_the_scale_of_the_paper() -> None:
    for name, published in (("selective-copy", 3e-4), ("chomsky", 3e-4), ("shakespeare", 1e-3), ("offline-rl", 1e-4)):
        experiment = load(name)
        cells = cells_of(experiment, "paper")
        assert {cell.options["learning_rate"] for cell in cells if "pattern" in cell.options} == {published}
