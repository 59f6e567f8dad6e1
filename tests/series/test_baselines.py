"""Simpler methods to be measured against."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from minrnn.series import MinRNNForecaster
from minrnn.series import _baselines as baselines


def test_series_that_are_alike_have_the_same_label() -> None:
    rng = np.random.default_rng(0)
    fast = np.arange(41) % 2
    X = [
        np.sin(np.arange(20 + n % 3) * (0.3 + 0.5 * fast[n]))[None] + 0.1 * rng.normal(size=20 + n % 3)
        for n in range(41)
    ]
    X[0][0, 3:6] = np.nan
    X[40] = X[40][:, :5]  # shorter than MiniRocket takes
    labels = np.array(["slow", "fast"])[fast]
    found = baselines.label_baselines("classify", X[:30], labels[:30], X[30:])
    assert list(found) == ["nearest neighbour (DTW)", "MiniRocket"]
    for name, answers in found.items():
        assert (answers[:10] == labels[30:40]).mean() >= 0.9, name
    numbers = 10 + fast + 0.01 * rng.normal(size=41)
    for name, answers in baselines.label_baselines("regress", X[:30], numbers[:30], X[30:]).items():
        assert np.abs(answers[:10] - numbers[30:40]).mean() < 0.4, name  # 0.5 is the mean's


def test_too_many_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_CELLS", 100)
    monkeypatch.setattr(baselines, "MOST_SERIES", 5)
    X = np.random.default_rng(0).normal(size=(6, 1, 12))
    assert baselines.label_baselines("classify", X, np.arange(6) % 2, X) == {
        "nearest neighbour (DTW)": None,
        "MiniRocket": None,
    }


def test_ridge_is_that_of_scikit_learn() -> None:
    y = np.random.default_rng(0).normal(size=(2, 60)).cumsum(axis=1)
    forecaster = MinRNNForecaster(3, context=8, width=8, steps=1, random_state=0).fit(y[:, :40])
    found = baselines.Ridge(forecaster, [y[:, :40]]).forecasts(y, np.array([40, 50]))
    mean, deviation = y[:, :40].mean(axis=1, keepdims=True), y[:, :40].std(axis=1, keepdims=True)
    z = (y - mean) / deviation
    past = np.stack([z[c, t : t + 8] for c in range(2) for t in range(30)])
    ahead = np.stack([z[c, t + 8 : t + 11] for c in range(2) for t in range(30)])
    model = SklearnRidge().fit(past, ahead)
    for w, origin in enumerate((40, 50)):
        expected = mean + deviation * model.predict(z[:, origin - 8 : origin])
        np.testing.assert_allclose(found[w], expected, rtol=1e-6)
