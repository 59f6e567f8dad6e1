from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear
from ..mixers import exempt_from_weight_decay
from ..models import Norm, Stack


class ForecastNetwork(nn.Module):
    """Reads the last steps of one channel and answers with its next ones, all at once.

    The window is brought to mean 0 and deviation 1 by its own values (arXiv 2211.14730 has this with channels apart,
    each read alone by the same weights). It goes two ways that are added: a `Stack` reads it in patches and the last
    state decides, and one Linear from all steps to all. Both begin at 0, which is a forecast of the window's mean.

    Args:
        context: steps K that are read.
        horizon: steps N that are forecast.
        answers: numbers for each step: the mean, and quantiles after it.
        covariates: E, known of every step, also of those to come.
        static: S, known of the series as a whole.
        marks: whether the stack sees which values are missing.
        patch: steps that the stack reads at once.
        mixer, width, layers, conv, mlp, dropout: see `SeriesNetwork`.

    Call: `y = network(past, covariates, static)`, past (B, K) with NaN where a value is missing, covariates
    (B, K + N, E), static (B, S) -> y (B, answers, N) in units of `past`.
    """

    def __init__(
        self,
        context: int,
        horizon: int,
        answers: int = 1,
        *,
        covariates: int = 0,
        static: int = 0,
        marks: bool = False,
        patch: int = 8,
        mixer: str = "mingru",
        width: int = 32,
        layers: int = 1,
        conv: int = 4,
        mlp: float = 2.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.context, self.horizon, self.answers = context, horizon, answers
        self.patch, self.marks, self.dropout = patch, marks, dropout
        self.enter = Linear(patch * (1 + marks + covariates) + static, width)
        self.stack = Stack(width, f"({mixer})*{layers}", conv=conv, mlp=mlp, dropout=dropout)
        self.norm = Norm(width)
        self.head = Linear(width + horizon * covariates + static, answers * horizon)
        self.direct = Linear(context, horizon)
        for part in (self.head, self.direct):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        exempt_from_weight_decay(self.enter.bias, self.head.bias, self.direct.bias)

    def forward(self, past: Tensor, covariates: Tensor, static: Tensor) -> Tensor:
        known = ~past.isnan()
        count = known.sum(dim=1, keepdim=True).clamp(min=1)
        filled = past.nan_to_num(0.0)
        mean = filled.sum(dim=1, keepdim=True) / count  # (B, 1)
        z = torch.where(known, filled - mean, 0.0)
        deviation = (z.square().sum(dim=1, keepdim=True) / count).sqrt() + 0.01  # a flat window stays flat
        z = z / deviation
        seen = [z[:, :, None], covariates[:, : self.context]]
        if self.marks:
            seen.insert(1, (~known).to(z.dtype)[:, :, None])
        steps = F.pad(torch.cat(seen, dim=-1), (0, 0, -self.context % self.patch, 0))  # zeros before the window
        patches = steps.reshape(len(steps), -1, self.patch * steps.shape[-1])  # (B, T, patch * ...)
        patches = torch.cat([patches, static[:, None].expand(-1, patches.shape[1], -1)], dim=-1)
        h = self.norm(self.stack(self.enter(patches))[0][:, -1])  # (B, D)
        ahead = covariates[:, self.context :].flatten(1)
        y = self.head(torch.cat([F.dropout(h, self.dropout, self.training), ahead, static], dim=-1))
        y = y.view(-1, self.answers, self.horizon) + self.direct(z)[:, None]
        return y * deviation[:, :, None] + mean[:, :, None]  # type: ignore[no-any-return]
