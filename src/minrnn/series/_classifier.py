from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from aeon.classification import BaseClassifier
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from ._collection import Collection
from ._estimator import Learner
from ._learning import Loss, seeded


class MinRNNClassifier(Learner, BaseClassifier):
    """Says which class a time series is of.

    Blocks of convolution, mixer and MLP (arXiv 2410.01201, Appendix C) read each series from both ends; the mean and
    the maximum over time of what they write decide. Channels are scaled to mean 0 and deviation 1 over what was
    learned from. Series may have several channels, unequal lengths, and missing values (NaN).

    Args:
        mixer: a name of `minrnn.mixers.names()` with options (`"attention:window=64"`), or a pattern of names.
        width: D.
        layers: how often `mixer` is repeated.
        bidirectional: read from both ends. With False all layers are causal.
        time_channel: the channel (-1: the last) that holds the time of each step, where steps are not equally far
            apart; the network reads the logarithm of the time since the step before in its place.
        conv: steps that each block's convolution sees; 0 leaves it out.
        mlp: hidden width of each block's MLP over D; 0 leaves it out.
        dropout: share of activations dropped in training.
        steps: updates; None makes 40 times the square root of the number of series, and 800 at least.
        learning_rate: the highest of AdamW; it rises over 50 updates and falls along a cosine.
        batch_size: series in one update.
        noise: deviation of what is added to scaled values in training, and of each series' amplitude.
        shift: the most that each series is moved in time in training, as a share of its length, by whole steps; fewer
            than 29 steps are not moved by 0.035.
        label_smoothing: share of each target that is spread over all classes.
        class_weight: None, "balanced" (each class counts the same), or a weight for each label.
        early_stopping: hold out `validation_fraction` of the series, keep the weights with the lowest loss on them, and
            stop after `patience` evaluations (of 20) without a lower one.
        validation_fraction: see `early_stopping`.
        patience: see `early_stopping`; 0 never stops.
        warm_start: `fit` goes on from the network, and keeps the scale, of the last `fit`; the last layer begins anew
            for classes that it did not know.
        random_state: same number, same network.
        n_jobs: threads; None is 1, -1 all processors.
        verbose: show progress on stderr.

    Attributes:
        classes_: labels, in the order of `predict_proba`'s columns.
        network_: the `SeriesNetwork`.
        scale_: mean and deviation of each channel.
        curve_: step, loss and held-out loss of each evaluation of the last call.

    Input: `(series, channels, steps)` or `(series, steps)` arrays, a list of `(channels, steps_i)` arrays, and what
    else aeon converts. Labels are numbers or strings.

    Raises:
        ValueError: series without steps or with other channels, a channel without values, infinite values, one class
            alone, a parameter out of range.

    Example:
        >>> X, y = np.random.default_rng(0).normal(size=(20, 2, 30)), ["a", "b"] * 10
        >>> MinRNNClassifier(steps=5, random_state=0).fit(X, y).predict(X[:1]).shape
        (1,)
    """

    def __init__(
        self,
        mixer: str = "mingru",
        *,
        width: int = 64,
        layers: int = 2,
        bidirectional: bool = True,
        time_channel: int | None = None,
        conv: int = 4,
        mlp: float = 2.0,
        dropout: float = 0.2,
        steps: int | None = None,
        learning_rate: float = 3e-3,
        batch_size: int = 32,
        noise: float = 0.1,
        shift: float = 0.035,
        label_smoothing: float = 0.1,
        class_weight: dict[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = 1,
        verbose: bool = False,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        super().__init__(
            mixer,
            width=width,
            layers=layers,
            bidirectional=bidirectional,
            time_channel=time_channel,
            conv=conv,
            mlp=mlp,
            dropout=dropout,
            steps=steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            noise=noise,
            shift=shift,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            warm_start=warm_start,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )

    LEARNED = (*Learner.LEARNED, "head_classes_")

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> MinRNNClassifier:
        """Go on learning, from more series: one pass over them at the highest learning rate.

        Before `fit`, the first call makes the network, and scales all later series as its own. After `fit`, it goes on
        from there.

        Args:
            X, y: as for `fit`; a batch may lack classes.
            classes: all labels there are, in the first call; None takes those of y.

        Raises:
            ValueError: as `fit`, and for a label that is not among the classes.
        """
        X = self._more(X)
        fresh = not self.is_fitted
        y = self._check_y(y, len(X), update_classes=False, allow_single_class=True)
        if fresh:
            labels = np.unique(y if classes is None else classes)
            if len(labels) < 2:
                raise ValueError(f"there is one class, {labels[0]}; give classes= all labels that there will be")
            self._know(labels)
        if unknown := np.setdiff1d(y, self.classes_).tolist():
            raise ValueError(f"y has the label {unknown[0]!r}, which is not among the classes {self.classes_.tolist()}")
        if fresh:
            self._begin(X)
        self._go_on(X, self._targets(y), self._loss(None))
        self.is_fitted = True
        return self

    def _fit(self, X: Collection, y: np.ndarray) -> MinRNNClassifier:
        weight = None
        if self.class_weight is not None:
            weight = torch.from_numpy(compute_class_weight(self.class_weight, classes=self.classes_, y=y)).float()
        self._learn(X, self._targets(y), self._loss(weight), stratify=y)
        return self

    def _know(self, labels: np.ndarray) -> None:
        """Take the labels, in order, as aeon's `fit` does."""
        self.classes_, self.n_classes_ = labels, len(labels)
        self.head_classes_ = labels
        self._class_dictionary = {label: index for index, label in enumerate(labels)}

    def _begin(self, X: Collection) -> None:
        """As all estimators; classes that the last `fit` knew keep what decides for them, others begin anew."""
        earlier = getattr(self, "network_", None) if self.warm_start else None
        super()._begin(X)
        if earlier is not None:
            known = self.head_classes_.tolist()
            with seeded(self.seed_), torch.no_grad():
                head = self._network().head
                for row, label in enumerate(self.classes_.tolist()):
                    if label in known:
                        head.weight[row] = earlier.head.weight[known.index(label)]
                        head.bias[row] = earlier.head.bias[known.index(label)]
            self.network_.head = head
        self.head_classes_ = self.classes_

    @property
    def _outputs(self) -> int:
        return len(self.classes_)

    def _targets(self, y: np.ndarray) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.classes_, y))

    def _loss(self, weight: Tensor | None) -> Loss:
        return partial(F.cross_entropy, weight=weight, reduction="none", label_smoothing=self.label_smoothing)

    def _predict(self, X: Collection) -> np.ndarray:
        return np.asarray(self.classes_[self._answers(X).argmax(dim=-1).numpy()])

    def _predict_proba(self, X: Collection) -> np.ndarray:
        return self._answers(X).double().softmax(dim=-1).numpy()
