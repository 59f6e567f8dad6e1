"""A fitted estimator in a run folder: `config.json` and `model.safetensors`, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minrnn.errors import UserError

from ..training._checkpoint import read_weights, save_weights
from ..training._files import write_json
from ..training._folder import RunFolder, header, read_config, unfit_config
from ._classifier import MinRNNClassifier
from ._collection import Scale
from ._forecaster import MinRNNForecaster
from ._regressor import MinRNNRegressor
from ._windows import Scales

Estimator = MinRNNClassifier | MinRNNRegressor | MinRNNForecaster
TASKS: dict[str, type[Estimator]] = {
    "classify": MinRNNClassifier,
    "regress": MinRNNRegressor,
    "forecast": MinRNNForecaster,
}


def task_of(estimator: Estimator) -> str:
    """Its name in `TASKS`."""
    return next(task for task, kind in TASKS.items() if isinstance(estimator, kind))


def save_estimator(
    estimator: Estimator,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    data: dict[str, Any] | None = None,
) -> None:
    """Write a fitted estimator to a run folder, from which `load_estimator` brings it back without pickle.

    What the optimiser remembers is not kept: `partial_fit` of a loaded estimator begins with none.

    Args:
        estimator: fitted.
        folder: new, or empty, or a run to replace with `overwrite`.
        overwrite: replace the run that is there.
        data: what the command line notes of where the series came from.

    Raises:
        UserError: the folder holds something else or cannot be written.
        NotFittedError: there is nothing to save yet.

    Example:
        >>> import tempfile
        >>> X, y = np.random.default_rng(0).normal(size=(20, 2, 30)), ["a", "b"] * 10
        >>> folder = tempfile.mkdtemp()
        >>> save_estimator(MinRNNClassifier(steps=5, random_state=0).fit(X, y), folder)
        >>> load_estimator(folder).predict(X[:1]).shape
        (1,)
    """
    estimator._check_is_fitted()
    with RunFolder(Path(folder)).anew(overwrite) as run:
        save_weights(run.best, estimator.network_)
        write_json(
            run.config,
            {
                **header(),
                "task": task_of(estimator),
                "parameters": _parameters(estimator),
                "learned": _learned(estimator),
                "data": data or {},
            },
        )


def load_estimator(folder: str | os.PathLike[str]) -> Estimator:
    """The estimator that `save_estimator`, or `minrnn train --task`, wrote.

    Raises:
        UserError: there is no such run, or a file of it is missing, damaged or foreign.
    """
    run = RunFolder(Path(folder))
    record = read_config(run)
    task = record.get("task")
    if task not in TASKS:
        raise UserError(f"{run.path} holds a {task or 'language'} run; expected one of {', '.join(TASKS)}")
    try:
        estimator = TASKS[task](**_given(record["parameters"]))
        _restore(estimator, record["learned"])
        with torch.device("meta"):  # a config.json of another size must not claim all memory before it is found out
            empty = estimator._network()
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise unfit_config(run, reason) from None
    weights = read_weights(run.best, empty)
    estimator.network_ = estimator._network()
    estimator.network_.load_state_dict(weights)
    estimator.network_.eval()
    estimator.is_fitted = True
    return estimator


def _parameters(estimator: Estimator) -> dict[str, Any]:
    """As JSON has them: a weight for each class as pairs, and no state of a random generator."""
    given = estimator.get_params()
    if isinstance(given.get("class_weight"), dict):
        given["class_weight"] = [[_plain(label), weight] for label, weight in given["class_weight"].items()]
    if not isinstance(given["random_state"], int | None):
        given["random_state"] = None
    return {name: _plain(value) for name, value in given.items()}


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_parameters`."""
    if isinstance(parameters.get("class_weight"), list):
        return parameters | {"class_weight": dict(parameters["class_weight"])}
    return parameters


def _learned(estimator: Estimator) -> dict[str, Any]:
    shared = {"metadata": _plain(estimator.metadata_), "curve": estimator.curve_}
    if isinstance(estimator, MinRNNForecaster):
        parts = {name: None if one is None else _of(one) for name, one in vars(estimator.scales_).items()}
        return shared | {"context": estimator.context_, "scales": parts}
    of_all = shared | {
        "scale": _of(estimator.scale_),
        "time_unit": estimator.time_unit_,
        "seed": estimator.seed_,
        "updates": estimator.updates_,
    }
    if isinstance(estimator, MinRNNRegressor):
        return of_all | {"target_mean": estimator.target_mean_, "target_deviation": estimator.target_deviation_}
    return of_all | {"classes": estimator.classes_.tolist(), "dtype": estimator.classes_.dtype.str}


def _restore(estimator: Estimator, learned: dict[str, Any]) -> None:
    estimator.metadata_, estimator.curve_ = learned["metadata"], learned["curve"]
    if isinstance(estimator, MinRNNForecaster):
        estimator.context_ = int(learned["context"])
        estimator.scales_ = Scales(**{name: one and _scale(one) for name, one in learned["scales"].items()})
        return
    estimator.scale_, estimator.time_unit_ = _scale(learned["scale"]), learned.get("time_unit")
    estimator.seed_, estimator.updates_ = int(learned["seed"]), int(learned["updates"])
    if isinstance(estimator, MinRNNRegressor):
        estimator.target_mean_ = float(learned["target_mean"])
        estimator.target_deviation_ = float(learned["target_deviation"])
    else:
        estimator._know(np.array(learned["classes"], np.dtype(learned["dtype"])))


def _of(scale: Scale) -> dict[str, Any]:
    return {name: values.tolist() for name, values in asdict(scale).items()}


def _scale(values: dict[str, Any]) -> Scale:
    return Scale(np.array(values["mean"]), np.array(values["deviation"]), np.array(values["marked"], bool))


def _plain(value: Any) -> Any:
    """Without numpy's types and tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value
