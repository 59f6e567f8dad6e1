"""Stretches of series that a forecaster learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._collection import Scale

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Scales:
    """Of what a forecaster reads: the series, their covariates and what is static; None where it reads none."""

    series: Scale
    covariates: Scale | None
    static: Scale | None

    @classmethod
    def of(cls, series: Arrays, exog: Arrays | None, static: np.ndarray | None) -> Scales:
        """Series (C, T_i), covariates (E, T_i), static (number of series, S)."""
        return cls(
            Scale.of(series, "y"),
            None if exog is None else Scale.of(exog, "exog"),
            None if static is None else Scale.of([np.asarray(static, np.float64).T], "static"),
        )

    def apply(
        self, series: Arrays, exog: Arrays | None, static: np.ndarray | None, ahead: int = 0
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Series (C, T_i), covariates (E, T_i + ahead) and static values (number of series, S), scaled, in float32.

        Raises ValueError where they are not of the kind that was learned from, and for gaps in what has to be known.
        """
        for given, scale, name in ((exog, self.covariates, "exog"), (static, self.static, "static")):
            if (given is None) != (scale is None):
                found, expected = ("None", "given") if given is None else ("given", "None")
                raise ValueError(f"{name} is {found}; expected {expected}, as in fit")
            if given is not None and len(given) != len(series):
                raise ValueError(f"{name} is of {len(given)} series; expected {len(series)}, as many as there are")
        ready = [_scaled(one, self.series, f"y[{i}]") for i, one in enumerate(series)]
        known = [torch.zeros(0, one.shape[1] + ahead) for one in series]
        if exog is not None and self.covariates is not None:
            known = [_scaled(one, self.covariates, f"exog[{i}]", whole=True) for i, one in enumerate(exog)]
        for i, (one, y) in enumerate(zip(known, series, strict=True)):
            if one.shape[1] != y.shape[1] + ahead:
                of = f"the {y.shape[1]} of y and the {ahead} after it" if ahead else "as many as y"
                raise ValueError(f"exog[{i}] has {one.shape[1]} steps; expected {y.shape[1] + ahead}, {of}")
        rows = torch.zeros(len(series), 0)
        if static is not None and self.static is not None:
            rows = _scaled(np.asarray(static, np.float64).T, self.static, "static", whole=True).T
        return ready, known, rows


def _scaled(one: np.ndarray, scale: Scale, name: str, *, whole: bool = False) -> Tensor:
    if len(one) != len(scale.mean):
        raise ValueError(f"{name} has {len(one)} channels; expected {len(scale.mean)}, as in fit")
    if whole and not np.isfinite(one).all():
        raise ValueError(f"{name} has missing or infinite values; fill them in: it has to be known at every step")
    return torch.from_numpy(scale.scaled(one)).float()


@dataclass(frozen=True)
class Windows:
    """Stretches of K + N steps of one channel each, as `Examples`: the first K are read, the others the target.

    Attributes:
        series: (C, T_i) each, scaled, NaN where a value is missing.
        covariates: (E, T_i) each, scaled.
        static: (number of series, S), scaled.
        context, horizon: K, N.
        index: (windows, 3): the series, the channel and the first step of each.
    """

    series: Sequence[Tensor]
    covariates: Sequence[Tensor]
    static: Tensor
    context: int
    horizon: int
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor, random: torch.Generator | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """past (B, K), covariates (B, K + N, E), static (B, S); targets (B, N)"""
        places, steps = self.index[rows].tolist(), self.context + self.horizon
        windows = torch.stack([self.series[one][channel, start : start + steps] for one, channel, start in places])
        known = torch.stack([self.covariates[one][:, start : start + steps].T for one, _, start in places])
        static = self.static[self.index[rows, 0]]
        return (windows[:, : self.context], known, static), windows[:, self.context :]


def all_windows(series: Sequence[Tensor], context: int, horizon: int, held_out: float) -> tuple[Tensor, Tensor]:
    """Indices of the windows to learn from, and of those to hold out: the last share of each series' starts.

    Between the two are `horizon` starts that neither has, so that no target is in both.
    """
    learned: list[Tensor] = []
    held: list[Tensor] = []
    for number, one in enumerate(series):
        starts = torch.arange(one.shape[1] - context - horizon + 1)
        cut = len(starts) - round(held_out * len(starts))
        for part, chosen in ((learned, starts[: max(cut - horizon, 0) if held_out else cut]), (held, starts[cut:])):
            part.append(torch.cartesian_prod(torch.tensor([number]), torch.arange(len(one)), chosen))
    return torch.cat(learned), torch.cat(held)
