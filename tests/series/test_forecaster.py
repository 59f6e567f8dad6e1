"""What the forecaster learns, and what it takes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from minrnn.series import ForecastNetwork, MinRNNForecaster

SMALL: dict[str, Any] = {"context": 32, "width": 16, "batch_size": 32, "learning_rate": 1e-2, "random_state": 0}


def wave(steps: int = 400, seed: int = 0) -> np.ndarray:
    t = np.arange(steps)
    return 100 + 20 * np.sin(t / 4) + np.random.default_rng(seed).normal(size=steps)


def test_path_goes_on_as_the_series_does() -> None:
    y = wave(420)
    forecaster = MinRNNForecaster(horizon=20, steps=200, **SMALL).fit(y[:400])
    path = forecaster.predict_path(y[:400])
    assert path.shape == (1, 20)
    assert np.abs(path[0] - y[400:]).mean() < 2.0  # of an amplitude of 20; the noise alone has 0.8
    assert forecaster.predict(y[:400]) == path[0, -1]
    assert forecaster.forecast(y[:400]) == path[0, -1]
    np.testing.assert_array_equal(forecaster.series_to_series_forecast(y[:400], 20), path[0])


def test_channels_are_read_alone() -> None:
    y = np.stack([wave(), 5 - 0.01 * wave(seed=1)])
    forecaster = MinRNNForecaster(horizon=5, steps=20, **SMALL).fit(y)
    path = forecaster.predict_path(y)
    changed = y.copy()
    changed[0] += 3
    assert path.shape == (2, 5)
    np.testing.assert_allclose(forecaster.predict_path(changed)[1], path[1], rtol=1e-5)
    assert np.abs(forecaster.predict_path(changed)[0] - path[0]).min() > 1
    np.testing.assert_allclose(forecaster.predict_path(pd.DataFrame(y.T), axis=0), path, rtol=1e-6)


def test_quantiles_cover_what_they_say_and_do_not_cross() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=3000)
    forecaster = MinRNNForecaster(horizon=4, steps=300, quantiles=(0.9, 0.1, 0.5), **SMALL).fit(y[:2000])
    found = forecaster.backtest(y, start=2000)
    assert (np.diff(found.quantiles, axis=2) >= 0).all()
    assert found.below.keys() == {0.1, 0.5, 0.9}
    assert all(abs(share - level) < 0.06 for level, share in found.below.items())
    assert 0.9 < found.mse < 1.2 < 1.8 < found.mse_of_last_value  # variance 1, and twice that


def test_a_backtest_is_the_forecasts_from_each_place() -> None:
    rng = np.random.default_rng(0)
    y, exog = np.stack([wave(), wave(seed=1)]), rng.normal(size=(1, 400))
    forecaster = MinRNNForecaster(horizon=5, steps=10, **SMALL).fit(y[:, :300], exog[:, :300])
    found = forecaster.backtest(y, exog, start=10, stride=77)
    assert found.origins.tolist() == [10, 87, 164, 241, 318, 395]
    for at, mean, quantiles, actual in zip(found.origins, found.mean, found.quantiles, found.actual, strict=True):
        np.testing.assert_allclose(mean, forecaster.predict_path(y[:, :at], exog[:, : at + 5]), rtol=1e-5)
        np.testing.assert_allclose(quantiles, forecaster.predict_quantiles(y[:, :at], exog[:, : at + 5]), rtol=1e-5)
        np.testing.assert_array_equal(actual, y[:, at : at + 5])
    assert found.mae == pytest.approx(np.abs(found.mean - found.actual).mean())
    with pytest.raises(ValueError, match="start is 396 and stride 1; expected a start from 1 to 395, 5 steps before"):
        forecaster.backtest(y, exog, start=396)


def test_covariates_of_the_steps_to_come_are_read() -> None:
    rng = np.random.default_rng(0)
    exog = (rng.random(600) < 0.3).astype(float)
    y = 10 * exog + rng.normal(size=600)
    forecaster = MinRNNForecaster(horizon=3, steps=400, **SMALL).fit(y[:-3], exog[:-3])
    for ahead in ([0, 0, 1], [1, 0, 0]):
        path = forecaster.predict_path(y[:-3], np.concatenate([exog[:-3], ahead]))[0]
        np.testing.assert_allclose(path, 10 * np.array(ahead), atol=2.5)


def test_static_values_tell_series_apart() -> None:
    """Each series is noise around 0 but for the last step of each four, whose sign is known from the static value."""
    rng = np.random.default_rng(0)
    signs = np.array([1.0, -1.0] * 5)
    series = [rng.normal(scale=0.1, size=200) + sign * np.linspace(0, 5, 200) for sign in signs]
    forecaster = MinRNNForecaster(horizon=2, steps=30, **SMALL)
    forecaster.fit_many(series, static=signs[:, None])
    paths = forecaster.predict_many(series, static=signs[:, None])
    assert paths.shape == (10, 1, 2)
    for number in (0, 1):
        alone = forecaster.predict_path(series[number], static=signs[number : number + 1])
        np.testing.assert_allclose(paths[number], alone, rtol=1e-5, atol=1e-5)
        other = forecaster.predict_path(series[number], static=-signs[number : number + 1])
        assert np.abs(other - alone).max() > 1e-4


def test_many_series_of_unequal_lengths() -> None:
    series = [wave(length, seed) for seed, length in enumerate((60, 200, 90))]
    forecaster = MinRNNForecaster(horizon=10, steps=100, **SMALL).fit_many([one[:-10] for one in series])
    assert forecaster.context_ == 20  # half of what the shortest has
    paths = forecaster.predict_many([one[:-10] for one in series])
    errors = np.abs(paths[:, 0] - np.stack([one[-10:] for one in series])).mean(axis=1)
    assert (errors < 5).all()


def test_missing_values_neither_spoil_the_forecast_nor_count_as_targets() -> None:
    y = wave(420)
    holes = y.copy()
    holes[np.random.default_rng(1).random(420) < 0.2] = np.nan
    forecaster = MinRNNForecaster(horizon=20, steps=200, **SMALL).fit(holes[:400])
    assert np.abs(forecaster.predict_path(holes[:400])[0] - y[400:]).mean() < 4.0
    whole = MinRNNForecaster(horizon=5, steps=5, **SMALL).fit(y)
    assert np.isfinite(whole.predict_path(holes)).all()


def test_a_series_shorter_than_the_context_and_one_longer() -> None:
    y = wave()
    forecaster = MinRNNForecaster(horizon=5, steps=20, **SMALL).fit(y)
    np.testing.assert_array_equal(forecaster.predict_path(y), forecaster.predict_path(y[-32:]))
    assert np.isfinite(forecaster.predict_path(y[:1])).all()


def test_a_fresh_network_forecasts_the_mean_of_the_window_and_a_flat_window_stays_flat() -> None:
    past = torch.randn(3, 10)
    past[1, 4] = torch.nan
    past[2] = 7.0
    network = ForecastNetwork(10, 4, 2, patch=3, marks=True)
    y = network(past, torch.zeros(3, 14, 0), torch.zeros(3, 0))
    torch.testing.assert_close(y, past.nanmean(dim=1)[:, None, None].expand(3, 2, 4))


def test_early_stopping_holds_out_the_end() -> None:
    y = np.concatenate([wave(300), np.zeros(100)])  # another series at its end
    forecaster = MinRNNForecaster(
        horizon=5, steps=400, early_stopping=True, validation_fraction=0.2, patience=3, **SMALL
    ).fit(y)
    held_out = [point["held_out"] for point in forecaster.curve_]
    assert held_out.index(min(held_out)) == max(len(held_out) - 1 - 3, 0)


def test_same_random_state_and_pickle() -> None:
    y = wave()
    first = MinRNNForecaster(horizon=5, steps=5, **SMALL).fit(y)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.predict_path(y), first.predict_path(y))
    np.testing.assert_array_equal(first.clone().fit(y).predict_path(y), first.predict_path(y))


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ({"horizon": 0}, {}, "horizon is 0; expected 1 or more"),
        ({"horizon": 400}, {}, "a series has 400 steps; a horizon of 400 needs 401"),
        ({"quantiles": (0.5, 1.0)}, {}, "quantiles are .* expected levels of more than 0 and less than 1"),
        ({}, {"exog": np.zeros(399)}, r"exog\[0\] has 399 steps; expected 400, as many as y"),
        ({}, {"exog": np.full(400, np.nan)}, "channel 0 of exog has no value"),
        ({}, {"exog": np.where(np.arange(400) == 3, np.nan, 1.0)}, r"exog\[0\] has missing or infinite values"),
        ({"early_stopping": True, "horizon": 199}, {}, "too few for a horizon of 199 and a held-out part"),
    ],
)
def test_input_that_will_not_do(option: dict[str, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MinRNNForecaster(**{"horizon": 5, "steps": 1} | SMALL | option).fit(wave(), **given)


def test_prediction_from_something_else_than_what_was_learned_from() -> None:
    y, exog = wave(), np.zeros(405)
    plain = MinRNNForecaster(horizon=5, steps=1, **SMALL).fit(y)
    with pytest.raises(ValueError, match="exog is given; expected None, as in fit"):
        plain.predict_path(y, exog)
    with pytest.raises(ValueError, match=r"y\[0\] has 2 channels; expected 1, as in fit"):
        plain.predict_path(np.stack([y, y]))
    informed = MinRNNForecaster(horizon=5, steps=1, **SMALL).fit(y, exog[:400])
    with pytest.raises(ValueError, match="exog is None; expected given"):
        informed.predict_path(y)
    with pytest.raises(ValueError, match=r"exog\[0\] has 400 steps; expected 405, the 400 of y and the 5 after it"):
        informed.predict_path(y, exog[:400])


def test_a_missing_value_moves_with_the_others() -> None:
    torch.manual_seed(0)
    network = ForecastNetwork(10, 4).eval()
    for part in (network.head, network.direct):
        torch.nn.init.normal_(part.weight)
    past, rest = torch.randn(3, 10), (torch.zeros(3, 14, 0), torch.zeros(3, 0))
    past[:, [2, 7]] = torch.nan
    torch.testing.assert_close(network(past + 5, *rest), network(past, *rest) + 5)
    known = past.clone()
    known[:, 2] = 0.3
    assert (network(known, *rest) - network(past, *rest)).abs().min() > 0


def test_series_that_do_not_belong_together() -> None:
    forecaster = MinRNNForecaster(horizon=5, steps=1, **SMALL)
    with pytest.raises(ValueError, match=r"series\[1\] has 2 channels and series\[0\] 1; expected the same"):
        forecaster.fit_many([wave(), np.stack([wave(), wave()])])
    with pytest.raises(ValueError, match="static is of 1 series; expected 2, as many as there are"):
        forecaster.fit_many([wave(), wave()], static=np.ones((1, 1)))


def test_a_warm_start_goes_on_from_the_last_fit() -> None:
    y = np.sin(np.arange(200) / 4)
    forecaster = MinRNNForecaster(4, context=16, width=8, steps=200, random_state=0, warm_start=True).fit(y)
    before = forecaster.predict_path(y)
    forecaster.set_params(steps=1, learning_rate=1e-9).fit(y[:60])
    np.testing.assert_allclose(forecaster.predict_path(y), before, atol=1e-4)
    forecaster.set_params(horizon=6).fit(y[:60])
    assert forecaster.predict_path(y).shape == (1, 6) and forecaster.context_ == 16
    with pytest.raises(ValueError, match="a series has 20 steps; warm_start goes on from a context of 16 and needs 22"):
        forecaster.fit(y[:20])
