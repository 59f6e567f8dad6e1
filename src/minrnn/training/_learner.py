"""A model that learns: weights, their moving average, and the optimizer, one update at a time."""

from __future__ import annotations

import contextlib
import copy
import gc
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minrnn.errors import UserError

from ._batches import draw_windows, seed_of
from ._config import TrainConfig
from ._distributed import Group
from ._optimizer import build_optimizer
from ._precision import autocast
from ._run import build_model

INITIAL = 2**32  # takes the place of a step in the seed of the initial weights


class Update(NamedTuple):
    """What one update did."""

    loss: float  # nats per token, before the update
    learning_rate: float
    gradient_norm: float  # before clipping


class Learner:
    """Step 0 of a run: initial weights from its seed, or those that are given, no moments yet. Every process of a group
    has the same.
    """

    def __init__(
        self,
        config: TrainConfig,
        vocabulary_size: int,
        group: Group,
        device: torch.device,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self.config, self.group, self.device = config, group, device
        torch.manual_seed(seed_of(config.seed, INITIAL))
        self.model = build_model(config, vocabulary_size).to(device).train()
        if weights is not None:
            self.model.load_state_dict(weights)
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema else None
        self.optimizer = build_optimizer(self.model, config)
        self._loss: nn.Module | None = None

    def close(self) -> None:
        """Let go of the process group, which torch cannot close while DistributedDataParallel holds it."""
        if isinstance(self._loss, DistributedDataParallel):
            self._loss = None
            gc.collect()

    def update(self, tokens: NDArray[np.integer], step: int, rate: float) -> Update:
        """Update `step`, at this learning rate, from windows of `tokens`. Raises UserError where it diverges."""
        config, group = self.config, self.group
        if self._loss is None:
            loss = _Loss(self.model)
            self._loss = loss if group.size == 1 else DistributedDataParallel(loss, gradient_as_bucket_view=True)
        torch.manual_seed(seed_of(config.seed, step, group.rank))  # dropout
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        windows = draw_windows(tokens, config.context, config.batch, config.seed, step)
        pieces = windows.chunk(group.size)[group.rank].to(self.device).chunk(config.accumulate)
        total = torch.zeros((), device=self.device)
        for number, piece in enumerate(pieces, 1):
            with self._exchange(number == len(pieces)):
                with autocast(self.device, config.precision):
                    surprise = self._loss(piece) / len(pieces)
                surprise.backward()
            total += surprise.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or float("inf")).item()
        mean = group.mean(total)
        if not (np.isfinite(norm) and np.isfinite(mean)):
            raise UserError(
                f"training diverged at step {step}: loss {mean}, gradient norm {norm}; "
                f"start again with a --learning-rate below {config.learning_rate:g} or a longer --warmup"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._follow(step)
        return Update(mean, rate, norm)

    def _exchange(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Processes exchange gradients once per update, with its last piece."""
        if isinstance(self._loss, DistributedDataParallel) and not last:
            return self._loss.no_sync()
        return contextlib.nullcontext()

    def _follow(self, step: int) -> None:
        """Move the average towards the weights; faster at first, lest the initial weights stay in it for long."""
        if self.average is not None:
            keep = min(self.config.ema, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(weight, 1 - keep)


class _Loss(nn.Module):
    """Mean surprise of a batch of windows, as one module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, windows: Tensor) -> Tensor:  # (B, T + 1) -> ()
        logits, _ = self.model(windows[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
