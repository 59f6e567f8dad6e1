"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ._checkpoint import State, load_checkpoint, read_weights, save_checkpoint, save_weights
from ._corpus import Corpus
from ._distributed import Group
from ._evaluate import CHUNK, Evaluation, evaluate
from ._folder import RunFolder, Settings
from ._learner import Learner
from ._metrics import Metrics, draw_curve
from ._optimizer import learning_rate
from ._pace import Pace
from ._progress import Display
from ._run import build_model


@dataclass(frozen=True)
class RunResult:
    """How a sitting ended. `held_out` is the float32 evaluation of the best weights, None where the run was stopped."""

    folder: Path
    step: int
    steps: int
    finished: bool
    held_out: Evaluation | None


class _Interrupted(Exception):
    """A stop was asked for in the middle of an evaluation."""


class Trainer:
    """One sitting of one run, from step 0 or, after `restore`, from its newest checkpoint."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        corpus: Corpus,
        group: Group,
        device: torch.device,
        display: Display,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        """`weights` take the place of random ones."""
        self.folder, self.settings, self.config = folder, settings, settings.config
        self.corpus, self.group, self.device, self.display = corpus, group, device, display
        self.weights = weights
        self.metrics: Metrics | None = None  # only the first process has one
        self.begin()

    def begin(self) -> None:
        """Step 0: initial weights, optimizer and state."""
        size = self.corpus.tokenizer.vocabulary_size
        self.learner = Learner(self.config, size, self.group, self.device, self.weights)
        self.state = State()

    def save_settings(self) -> None:
        """Write config.json."""
        size = self.corpus.tokenizer.vocabulary_size
        dataclasses.replace(
            self.settings, config=self.config, vocabulary_size=size, text_sha256=self.corpus.sha256
        ).save(self.folder)

    def restore(self) -> None:
        """Take up the newest checkpoint."""
        learner = self.learner
        self.state = load_checkpoint(self.folder.last, learner.model, learner.optimizer, learner.average)

    def run(self, should_stop: Callable[[], bool]) -> RunResult:
        """Train to the end, or until `should_stop()`; either way the run folder is complete when this returns."""
        self.should_stop = should_stop
        self.metrics = self._open_metrics()
        self.pace = Pace(self.metrics.seconds if self.metrics else 0.0)
        try:
            held_out = self._train()
        finally:
            self.learner.close()
            if self.metrics is not None:
                self.metrics.close()
        return RunResult(self.folder.path, self.state.step, self.config.steps, self.state.finished, held_out)

    def _open_metrics(self) -> Metrics | None:
        if not self.group.first:
            return None
        return Metrics(self.folder.metrics, self.state.lines, self.state.step, self.config.tensorboard)

    def _train(self) -> Evaluation | None:
        """A resumed run is the same run because the order is always: evaluate if due, end or save if due, step."""
        saved = self.state.step
        while not self.group.any(self.should_stop(), self.device):
            state, config = self.state, self.config
            ending = 0 < config.steps == state.step
            due = state.step > 0 and (ending or state.step % config.evaluate_every == 0)
            if due and state.evaluated < state.step and not self._evaluate():
                break
            if ending or 0 < config.patience <= state.stale:
                if (held_out := self._finish()) is None:
                    break
                return held_out
            if state.step % config.checkpoint_every == 0 and saved < state.step:
                self._save()
                saved = state.step
            self._step()
            if not config.steps:
                self._fix_steps()
        self._save()
        self._draw()
        return None

    def _step(self) -> None:
        """One update."""
        began = time.perf_counter()
        config, state = self.config, self.state
        update = self.learner.update(self.corpus.train, state.step, learning_rate(config, state.step))
        state.step += 1
        self.pace.step(time.perf_counter() - began)
        self._note(**update._asdict())
        rate = self.pace.rate(config.batch * config.context)
        self.display.step(state.step, config.steps, update.loss, rate, self.pace.left(state.step, config))

    def _draw(self) -> None:
        self.group.lead(lambda: draw_curve(self.folder.metrics, self.folder.curve))

    def _note(self, **figures: float) -> None:
        if self.metrics is not None:
            self.metrics.write(step=self.state.step, **figures, seconds=round(self.pace.seconds(), 3))

    def _measure(self, model: nn.Module, precision: str) -> Evaluation | None:
        """Evaluate on the held-out part in the first process; None where a stop was asked for meanwhile."""

        def progress(done: int, of: int) -> None:
            self.display.busy(f"evaluating {done / of:.0%}")
            if self.should_stop():
                raise _Interrupted

        def work() -> Evaluation | None:
            corpus = self.corpus
            with contextlib.suppress(_Interrupted):
                return evaluate(
                    model,
                    corpus.held_out,
                    characters=corpus.held_out_characters,
                    context=self.config.context,
                    precision=precision,
                    progress=progress,
                )
            return None

        return self.group.lead(work)

    def _evaluate(self) -> bool:
        """Evaluate, and keep the weights where they are the best so far; False where a stop was asked for meanwhile."""
        began = time.perf_counter()
        model, state = self.learner.average or self.learner.model, self.state
        result = self._measure(model, self.config.precision)
        if result is None:
            return False
        nats = result.nats_per_token
        state.evaluated = state.step
        state.stale += 1
        if state.best is None or nats < state.best:
            state.best, state.best_step, state.stale = nats, state.step, 0
            self.group.lead(lambda: save_weights(self.folder.best, model, step=state.step, nats_per_token=nats))
        self.pace.evaluation(time.perf_counter() - began)
        self._note(held_out=nats, bits_per_character=result.bits_per_character)
        best = "" if state.stale else ", the best so far"
        figures = f"{nats:.4f} nats per token, {result.bits_per_character:.4f} bits per character"
        self.display.say(f"step {state.step}: held-out {figures}{best}")
        return True

    def _finish(self) -> Evaluation | None:
        """Measure the weights that the run leaves behind as `minrnn evaluate` will."""
        model = build_model(self.config, self.corpus.tokenizer.vocabulary_size).to(self.device)
        if self.group.first:
            model.load_state_dict(read_weights(self.folder.best, model))
        result = self._measure(model, "float32")
        if result is not None:
            self.state.finished = True
            self._draw()
            self._note(
                **{f"best_{name}": value for name, value in dataclasses.asdict(result).items()},
                best_step=self.state.best_step,
            )
            self._save()
        return result

    def _save(self) -> None:
        """Write the newest checkpoint; a run at step 0 or of no fixed number of steps has none, and starts again."""

        def work() -> None:
            assert self.metrics is not None
            self.display.busy("saving")
            self.metrics.sync()
            self.state.lines = self.metrics.lines
            learner = self.learner
            save_checkpoint(self.folder.last, learner.model, learner.optimizer, learner.average, self.state)

        if self.state.step > 0 and self.config.steps:
            self.group.lead(work)

    def _fix_steps(self) -> None:
        """Under `--minutes`: once the pace is known, settle the number of steps, and save it for `resume`."""
        more = self.group.lead(self._affordable)
        if more is None:
            return
        config, done = self.config, self.state.step
        fixed = dataclasses.replace(config, steps=done + more)
        again = any(learning_rate(fixed, step) != learning_rate(config, step) for step in range(done))
        if again:  # so few steps that the warm-up must be shorter than these first steps believed
            fixed = dataclasses.replace(config, steps=max(more, 1))
        self.config = fixed
        self.group.lead(self.save_settings)
        self.display.say(
            f"{config.minutes:g} minutes allow {fixed.steps} steps" + (", now from the beginning" if again else "")
        )
        if again:
            self.learner.close()
            self.begin()
            if self.metrics is not None:
                self.metrics.close()
                self.metrics = self._open_metrics()

    def _affordable(self) -> int | None:
        """How many more steps the time allows; None while the pace is not known."""
        config, budget = self.config, 60 * self.config.minutes
        if not self.pace.known(budget):
            return None
        sample = self.corpus.held_out[: CHUNK + 1]
        share = len(self.corpus.held_out) / len(sample)
        seconds = []
        for precision in (config.precision, "float32"):
            began = time.perf_counter()
            evaluate(self.learner.model, sample, context=config.context, precision=precision)
            seconds.append(share * (time.perf_counter() - began))
        return self.pace.affordable(budget, config.evaluate_every, *seconds)
