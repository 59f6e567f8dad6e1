from __future__ import annotations

from typing import Any

import numpy as np
import torch
from aeon.regression.base import BaseRegressor
from torch import Tensor

from ._collection import Collection, deviation
from ._estimator import Learner


class MinRNNRegressor(Learner, BaseRegressor):
    """Says which number belongs to a time series: `MinRNNClassifier` for one real target.

    The target is scaled to mean 0 and deviation 1 over what was learned from, and the mean squared error is minimised.

    Args:
        mixer, width, layers, bidirectional, time_channel, conv, mlp, dropout, steps, learning_rate, batch_size, noise,
        shift, early_stopping, validation_fraction, patience, warm_start, random_state, n_jobs, verbose: see
            `MinRNNClassifier`.

    Attributes:
        network_, scale_, curve_: see `MinRNNClassifier`.
        target_mean_, target_deviation_: of the targets.

    Raises:
        ValueError: as `MinRNNClassifier`, and for targets that are missing or infinite.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(20, 2, 30))
        >>> MinRNNRegressor(steps=5, random_state=0).fit(X, X[:, 0].mean(axis=-1)).predict(X[:1]).shape
        (1,)
    """

    LEARNED = (*Learner.LEARNED, "target_mean_", "target_deviation_")

    def partial_fit(self, X: Any, y: Any) -> MinRNNRegressor:
        """Go on learning, from more series: one pass over them at the highest learning rate.

        Before `fit`, the first call makes the network, and scales all later series and targets as its own. After
        `fit`, it goes on from there.
        """
        X = self._more(X)
        y = self._check_y(y, len(X))
        if not self.is_fitted:
            self._scale_targets(y)
            self._begin(X)
        self._go_on(X, self._targets(y), _squared_error)
        self.is_fitted = True
        return self

    def _fit(self, X: Collection, y: np.ndarray) -> MinRNNRegressor:
        self._scale_targets(y)
        self._learn(X, self._targets(y), _squared_error)
        return self

    @property
    def _outputs(self) -> int:
        return 1

    def _scale_targets(self, y: np.ndarray) -> None:
        if self.warm_start and hasattr(self, "target_mean_"):
            return  # the last layer answers in these
        self.target_mean_ = float(y.mean())
        self.target_deviation_ = float(deviation(y))

    def _targets(self, y: np.ndarray) -> Tensor:
        return torch.from_numpy((y - self.target_mean_) / self.target_deviation_).float()

    def _predict(self, X: Collection) -> np.ndarray:
        return self.target_mean_ + self.target_deviation_ * self._answers(X)[:, 0].double().numpy()


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()
