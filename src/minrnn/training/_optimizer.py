"""AdamW with weight decay where it belongs, and the learning rate of each step."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn


class OptimizerConfig(Protocol):
    """What decides the updates; see `TrainConfig`."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def final_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over `model`: weight decay on every parameter but those that the model tagged `no_weight_decay`."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        (free if getattr(parameter, "no_weight_decay", False) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    try:
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    except RuntimeError:  # no fused form for this device or torch
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """The rate of update `step` (0 is the first): a linear rise, then half a cosine down to `final_rate` at the last.

    While `config.steps` is not known yet there is only the rise.
    """
    warmup = min(config.warmup, config.steps // 4) if config.steps else config.warmup
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if not config.steps:
        return config.learning_rate
    done = (step - warmup) / max(config.steps - 1 - warmup, 1)
    fraction = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return config.learning_rate * fraction
