"""How fast a run goes, and how many steps a time allows."""

from __future__ import annotations

import math
import time

from ._config import TrainConfig

MARGIN = 0.97  # of the minutes asked for; a machine is never equally fast all the time


class Pace:
    """Clock of one sitting."""

    def __init__(self, seconds: float) -> None:
        self._began = time.perf_counter() - seconds
        self._steps: list[float] = []
        self._evaluation = 0.0

    def seconds(self) -> float:
        """Seconds of training over all sittings."""
        return time.perf_counter() - self._began

    def step(self, seconds: float) -> None:
        self._steps.append(seconds)

    def evaluation(self, seconds: float) -> None:
        self._evaluation = seconds

    def rate(self, tokens: int) -> float:
        """Tokens a second, for steps of so many tokens."""
        return tokens / self._step_seconds(20)

    def left(self, step: int, config: TrainConfig) -> float | None:
        """Seconds until the last step is done; None while the number of steps is not known."""
        if not config.steps:
            return None
        steps = config.steps - step
        return steps * self._step_seconds(100) + math.ceil(steps / config.evaluate_every) * self._evaluation

    def known(self, budget: float) -> bool:
        """Whether the speed can be told: after 5 % of the time, at most 10 seconds, and five steps if they are fast."""
        seconds = self.seconds()
        return seconds > min(0.05 * budget, 10.0) and (len(self._steps) >= 5 or seconds > 0.25 * budget)

    def affordable(self, budget: float, evaluate_every: int, evaluation: float, final: float) -> int:
        """How many more steps fit into `budget` seconds, of which an evaluation takes so many, the final one others."""
        left = MARGIN * budget - self.seconds() - evaluation - final
        return max(int(left / (self._step_seconds(100) + evaluation / evaluate_every)), 0)

    def _step_seconds(self, newest: int) -> float:
        steps = self._steps[2:] or self._steps  # the first ones load kernels and fill caches
        return sum(steps[-newest:]) / len(steps[-newest:])
