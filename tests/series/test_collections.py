"""Classifier and regressor: what they learn, and what they take."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from minrnn.mixers import names
from minrnn.series import MinRNNClassifier, MinRNNRegressor
from minrnn.series._estimator import Whole

SMALL: dict[str, Any] = {
    "width": 16,
    "layers": 1,
    "steps": 120,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "random_state": 0,
}


def waves(number: int, seed: int, *, missing: float = 0.0) -> tuple[list[np.ndarray], np.ndarray]:
    """Series of unequal lengths whose second channel is slow or fast; the first is noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(["slow", "fast"])[rng.integers(2, size=number)]
    series = []
    for label in labels:
        t = np.arange(rng.integers(20, 41)) + rng.uniform(0, 10)
        wave = np.sin(t * (0.4 if label == "slow" else 0.9))
        one = 50 + 10 * np.stack([rng.normal(size=len(t)), wave])
        one[rng.random(one.shape) < missing] = np.nan
        series.append(one)
    return series, labels


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_classes_of_unequal_series_with_gaps(missing: float, bidirectional: bool) -> None:
    classifier = MinRNNClassifier(bidirectional=bidirectional, **SMALL)
    classifier.fit(*waves(60, 0, missing=missing))
    X, y = waves(60, 1, missing=missing)
    assert classifier.score(X, y) >= 0.9
    probabilities = classifier.predict_proba(X)
    assert list(classifier.classes_) == ["fast", "slow"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(X))


def test_a_number() -> None:
    def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
        X = np.random.default_rng(seed).normal(size=(300, 2, 25))
        return X, 1000 + 50 * X[:, 1, -5:].mean(axis=1)

    regressor = MinRNNRegressor(**SMALL | {"steps": 300, "noise": 0.0, "shift": 0.0}, dropout=0.0).fit(*sample(0))
    assert regressor.score(*sample(1)) >= 0.8


@pytest.mark.parametrize("name", names())
def test_every_mixer_by_name(name: str) -> None:
    X, y = waves(8, 0)
    options = SMALL | {"steps": 2}
    assert MinRNNClassifier(name, **options).fit(X, y).predict_proba(X).shape == (8, 2)


def test_a_series_alone_is_the_series_beside_longer_ones() -> None:
    X, y = waves(20, 0, missing=0.1)
    classifier = MinRNNClassifier(**SMALL | {"steps": 5}).fit(X, y)
    alone = np.concatenate([classifier.predict_proba([one]) for one in X])
    np.testing.assert_allclose(classifier.predict_proba(X), alone, atol=1e-5)


def test_an_order_of_steps_that_is_turned_is_another_series() -> None:
    X, y = waves(20, 0)
    for bidirectional in (True, False):
        classifier = MinRNNClassifier(**SMALL | {"steps": 5}, bidirectional=bidirectional).fit(X, y)
        turned = classifier.predict_proba([one[:, ::-1].copy() for one in X])
        assert np.abs(turned - classifier.predict_proba(X)).max() > 1e-3


def test_one_series_without_one_of_the_channels() -> None:
    X, y = waves(8, 0)
    X[2][0] = np.nan
    classifier = MinRNNClassifier(**SMALL | {"steps": 2}).fit(X, y)
    found = classifier.predict_proba(X)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(classifier.predict_proba([X[2]])[0], found[2], atol=1e-5)
    whole = MinRNNClassifier(**SMALL | {"steps": 2}).fit([one for one in X if one is not X[2]], np.delete(y, 2))
    np.testing.assert_allclose(whole.predict_proba([X[2]])[0], whole.predict_proba(X)[2], atol=1e-5)


@pytest.mark.parametrize(("unit", "zero"), [(1e6, 3e8), (1e-12, 0), (1e-21, 0), (0.01, 1e6), (0.01, 1e9)])
def test_units_do_not_matter(unit: float, zero: float, recwarn: pytest.WarningsRecorder) -> None:
    X, y = waves(20, 0)
    options = SMALL | {"steps": 5}
    plain = MinRNNClassifier(**options).fit(X, y).predict_proba(X)
    scaled = [unit * one - zero for one in X]
    np.testing.assert_allclose(MinRNNClassifier(**options).fit(scaled, y).predict_proba(scaled), plain, atol=1e-4)
    assert not recwarn.list


def test_a_constant_is_not_blown_up() -> None:
    X, y = waves(20, 0)
    rng = np.random.default_rng(0)
    for jitter in (0, 1e-15):  # as of a unit that was converted
        constant = [101325.3 * (1 + jitter * rng.normal(size=one.shape[1])) for one in X]
        beside = [np.concatenate([one, also[None]]) for one, also in zip(X, constant, strict=True)]
        assert MinRNNClassifier(**SMALL | {"steps": 1}).fit(beside, y).scale_.deviation[2] == 1
        regressor = MinRNNRegressor(**SMALL | {"steps": 1}).fit(X, np.array([one[0] for one in constant]))
        assert regressor.target_deviation_ == 1


@pytest.mark.parametrize("kind", [MinRNNClassifier, MinRNNRegressor])
def test_learning_that_diverges(kind: Any) -> None:
    X, y = waves(20, 0)
    estimator = kind(**SMALL | {"learning_rate": 1e9})
    with pytest.raises(ValueError, match=r"training diverged at step \d+: loss .*; give a learning_rate below 1e\+09"):
        estimator.fit(X, y if kind is MinRNNClassifier else np.arange(20) / 7)
    assert not estimator.is_fitted


def test_same_random_state_same_network_and_no_trace_on_torch() -> None:
    X, y = waves(20, 0)
    options = SMALL | {"steps": 5}
    torch.manual_seed(7)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(7)
    first = MinRNNClassifier(**options, n_jobs=2).fit(X, y)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(first.predict_proba(X), clone(first).fit(X, y).predict_proba(X))
    other = MinRNNClassifier(**options | {"random_state": 1}).fit(X, y)
    assert np.abs(other.predict_proba(X) - first.predict_proba(X)).max() > 1e-3


def test_pickle(tmp_path: Path) -> None:
    X, y = waves(20, 0)
    classifier = MinRNNClassifier(**SMALL | {"steps": 5}).fit(X, y)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_class_weights_raise_the_rare_class() -> None:
    X = np.random.default_rng(0).normal(size=(100, 1, 12))  # nothing to learn but the shares
    y = np.arange(100) % 10 == 0
    means = [
        MinRNNClassifier(**SMALL | {"steps": 60}, class_weight=weight).fit(X, y).predict_proba(X)[:, 1].mean()
        for weight in (None, "balanced", {False: 1.0, True: 30.0})
    ]
    assert means[0] < 0.25 < means[1] < means[2]


def test_early_stopping_keeps_the_best_weights() -> None:
    X, y = waves(60, 0)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn, so that learning on makes it worse
    classifier = MinRNNClassifier(**SMALL | {"steps": 400}, early_stopping=True, validation_fraction=0.3, patience=4)
    classifier.fit(X, y)
    held_out = [point["held_out"] for point in classifier.curve_]
    assert len(held_out) < 20
    assert held_out.index(min(held_out)) == len(held_out) - 1 - 4


def test_progress_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = waves(8, 0)
    MinRNNClassifier(**SMALL | {"steps": 3}, verbose=True).fit(X, y)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 3/3" in printed.err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X, y: ([*X[:-1], X[-1][:1]], y), r"X\[7\] has 1 channels and X\[0\] 2; expected the same"),
        (lambda X, y: ([*X[:-1], X[-1][:, :0]], y), r"X\[7\] has shape \(2, 0\): it is empty; leave it out"),
        (lambda X, y: ([], []), "X is an empty list"),
        (lambda X, y: (np.zeros((0, 2, 5)), y[:0]), r"X has shape \(0, 2, 5\): there is nothing in it"),
        (lambda X, y: ([one * [[np.nan], [1]] for one in X], y), "channel 0 of X has no value, all are missing"),
        (lambda X, y: ([one + [[np.inf], [0]] for one in X], y), "X has infinite values"),
        (lambda X, y: (X, y[:-1]), "Mismatch in number of cases"),
        (lambda X, y: (X, np.zeros(8)), "at least 2 unique labels"),
    ],
)
def test_input_that_will_not_do(spoil: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MinRNNClassifier(**SMALL).fit(*spoil(*waves(8, 0)))


def test_other_channels_than_in_fit() -> None:
    X, y = waves(8, 0)
    classifier = MinRNNClassifier(**SMALL | {"steps": 1}).fit(X, y)
    with pytest.raises(ValueError, match="different number of channels"):
        classifier.predict([one[:1] for one in X])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"width": 0}, "width is 0; expected 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more and less than 1"),
        ({"shift": 1.0}, "shift is 1.0; expected 0 or more and less than 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1; expected 0 or more"),
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction is 1.5; expected more than 0"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "early_stopping cannot hold out 0.01 of 8 series"),
        ({"mixer": "minrgu"}, "mingru"),
    ],
)
def test_parameters_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MinRNNClassifier(**SMALL | option).fit(*waves(8, 0))


def test_targets_that_will_not_do() -> None:
    X, _ = waves(8, 0)
    with pytest.raises(ValueError, match=r"y\[0\] is nan; leave that series out"):
        MinRNNRegressor(**SMALL).fit(X, np.array([np.nan, *range(7)]))


def test_going_on_with_more_series() -> None:
    classifier = MinRNNClassifier(**SMALL)
    for seed in range(12):
        X, y = waves(60, seed)
        classifier.partial_fit(X, y, classes=["slow", "fast"])
    assert classifier.score(*waves(60, 99)) >= 0.9
    assert classifier.updates_ == 12 * 4
    before = classifier.predict_proba(X)
    again = pickle.loads(pickle.dumps(classifier))
    for one in (classifier, again):
        one.partial_fit(X[:5], y[:5])
    assert np.abs(classifier.predict_proba(X) - before).max() > 0
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("number", [5, 32, 33, 40, 65])
def test_going_on_reads_each_series_once(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    take = Whole.take

    def noted(self: Whole, rows: torch.Tensor, random: torch.Generator | None = None) -> Any:
        read.extend(rows.tolist())
        return take(self, rows, random)

    monkeypatch.setattr(Whole, "take", noted)
    MinRNNClassifier(width=8, layers=1, random_state=0).partial_fit(*waves(number, 0), classes=["slow", "fast"])
    assert sorted(read) == list(range(number))


def test_going_on_after_fit_and_a_fit_that_begins_anew() -> None:
    X, y = waves(30, 0)
    options = SMALL | {"steps": 20}
    classifier = MinRNNClassifier(**options).fit(X, y)
    fitted = classifier.predict_proba(X)
    classifier.partial_fit(*waves(30, 1))
    assert np.abs(classifier.predict_proba(X) - fitted).max() > 1e-3
    np.testing.assert_array_equal(classifier.fit(X, y).predict_proba(X), fitted)


def test_going_on_with_numbers() -> None:
    regressor = MinRNNRegressor(**SMALL | {"noise": 0.0, "shift": 0.0})
    for seed in range(40):
        X = np.random.default_rng(seed).normal(size=(64, 1, 15))
        regressor.partial_fit(X, 1000 + 50 * X[:, 0].mean(axis=1))
    assert regressor.score(X, 1000 + 50 * X[:, 0].mean(axis=1)) > 0.7


def test_a_class_or_a_channel_that_the_first_call_did_not_have() -> None:
    X, y = waves(8, 0)
    with pytest.raises(ValueError, match="there is one class, slow; give classes= all labels that there will be"):
        MinRNNClassifier(**SMALL).partial_fit(X, ["slow"] * 8)
    classifier = MinRNNClassifier(**SMALL).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y has the label 'third', which is not among the classes \['fast', 'slow'\]"):
        classifier.partial_fit(X, ["third"] * 8)
    with pytest.raises(ValueError, match="different number of channels"):
        classifier.partial_fit([one[:1] for one in X], y)


def test_a_warm_start_goes_on_from_the_last_fit() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 2, 12)) + np.arange(24)[:, None, None] % 2
    y = np.arange(24) % 2
    classifier = MinRNNClassifier(width=8, steps=60, random_state=0, warm_start=True).fit(X, y)
    learned, first = copy.deepcopy(classifier.network_.state_dict()), classifier.curve_[0]["loss"]
    classifier.set_params(steps=1, learning_rate=1e-9).fit(10 + 2 * X, y)
    assert classifier.scale_.mean == pytest.approx(X.mean(axis=(0, 2)))  # as the network knows it
    for name, weight in classifier.network_.state_dict().items():
        torch.testing.assert_close(weight, learned[name], rtol=0, atol=1e-6)
    classifier.fit(X, np.arange(24) % 3)
    assert classifier.predict_proba(X).shape == (24, 3)
    torch.testing.assert_close(classifier.network_.enter.weight, learned["enter.weight"], rtol=0, atol=1e-6)
    assert first > 0.5
    with pytest.raises(ValueError, match="X has 1 channels; warm_start goes on from 2"):
        classifier.fit(X[:, :1], y)
    with pytest.raises(ValueError, match=r"another shape.*warm_start=False"):
        classifier.set_params(width=16).fit(X, y)
    assert classifier.set_params(warm_start=False).fit(X, y).network_.enter.weight.shape == (16, 2)


@pytest.mark.parametrize("kind", [MinRNNClassifier, MinRNNRegressor])
def test_times_of_steps(kind: Any) -> None:
    rng = np.random.default_rng(0)
    slow = np.arange(60) % 2
    times = np.cumsum(rng.exponential(1 + 3 * slow[:, None], size=(60, 15)), axis=1)
    X = np.stack([times, rng.normal(size=(60, 15))], axis=1)
    y = slow if kind is MinRNNClassifier else slow + 0.1 * rng.normal(size=60)
    estimator = kind(time_channel=0, **SMALL).fit(X[:40], y[:40])
    found = estimator.predict(X[40:])
    assert np.abs(found - y[40:]).mean() < 0.2
    later, faster = X[40:].copy(), X.copy()
    later[:, 0] += 1000  # when a series began does not matter, nor do the units
    faster[:, 0] *= 60
    np.testing.assert_allclose(estimator.predict(later), found, atol=1e-4)
    np.testing.assert_allclose(
        kind(time_channel=0, **SMALL).fit(faster[:40], y[:40]).predict(faster[40:]), found, atol=1e-3
    )
    X[3, 0, 5] = X[3, 0, 7]
    with pytest.raises(ValueError, match=r"series 4 has the time .* at step 7, after .*time_channel"):
        kind(time_channel=0, **SMALL).fit(X, y)
    with pytest.raises(ValueError, match="time_channel is 2, but series have 2 channels"):
        kind(time_channel=2, **SMALL).fit(X, y)


def test_a_warm_start_keeps_what_decides_for_the_classes_that_it_knows() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(40) % 2
    X = rng.normal(size=(40, 1, 12)) + 3 * kind[:, None, None]
    classifier = MinRNNClassifier(width=8, steps=60, random_state=0, warm_start=True).fit(X, np.array(["b", "c"])[kind])
    classifier.set_params(steps=1, learning_rate=1e-9)
    assert classifier.fit(X, np.array(["b", "d"])[kind]).predict_proba(X[:1])[0, 0] != 0
    learned = classifier.network_.head.weight[0].clone()  # of b
    classifier.fit(np.concatenate([X, X[:2] + 9]), np.array(["b", "d", "a"])[[*kind, 2, 2]])
    torch.testing.assert_close(classifier.network_.head.weight[1], learned, rtol=0, atol=1e-6)
    assert (classifier.predict(X[kind == 0]) == "b").mean() > 0.9


def test_a_warm_start_keeps_the_scale_of_targets() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=60)
    X = y[:, None, None] + 0.1 * rng.normal(size=(60, 1, 10))
    regressor = MinRNNRegressor(width=8, steps=150, random_state=0, warm_start=True).fit(X, y)
    before = regressor.predict(X)
    regressor.set_params(steps=1, learning_rate=1e-9).fit(X[y > 0.5], y[y > 0.5])
    np.testing.assert_allclose(regressor.predict(X), before, atol=1e-4)
    timed = MinRNNRegressor(width=8, steps=1, warm_start=True, random_state=0).fit(X.cumsum(axis=2), y)
    with pytest.raises(ValueError, match="time_channel is 0; warm_start goes on from a fit where it was another"):
        timed.set_params(time_channel=0).fit(np.abs(X).cumsum(axis=2), y)
