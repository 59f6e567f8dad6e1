from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from minrnn.errors import UserError
from minrnn.models import DecisionModel

from . import _picture
from ._contest import Contest, Contestant
from ._experiment import ByScale, Cell, Control, Published, Results, Scale, Table, Verdict, Watch
from ._fit import Fit, train
from ._judging import answer, better, matches, mean, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .tasks.trajectories import Trajectories

MARGIN = 5.0  # points of D4RL's score
EPISODES = 50
CLONE, BEST = "clone of everything", "clone of the best 10 %"
LEARNED = "actions"


class OfflineRL(Contest):
    name = "offline-rl"
    packages = ("gymnasium", "mujoco")
    flags = ByScale(smoke="", cpu="--collect", paper="--trajectories FOLDER")
    claim = (
        "In offline reinforcement learning, return-conditioned policies of minGRU and minLSTM match a Decision "
        "Transformer."
    )
    source = "arXiv 2410.01201, Table 3, on D4RL; the Decision Transformer is arXiv 2106.01345"
    published = (
        Published("average of nine sets: Decision Transformer / minLSTM / minGRU", "76.4 / 78.1 / 78.2"),
        Published("Hopper-M: Decision Transformer / minLSTM / minGRU", "68.4 / 85.0 / 79.4"),
        Published("Walker-M: Decision Transformer / minLSTM / minGRU", "75.5 / 72.0 / 73.3"),
    )
    differs = ByScale(
        smoke="random hopper, width 16, 20 steps, one episode: shows that it runs.",
        cpu=(
            "this is not D4RL, which no package carries: Hopper-v5 and Walker2d-v5, episodes that policies of mixed "
            "quality left here, PPO after each quarter of 400,000 steps, with noise drawn anew every 50 steps; those "
            "with a score below 60 are kept. Width 64, 2 layers with MLP, windows of 20 steps, 4,000 steps of 64; "
            "return, observation and action are one token a step, not three; 50 episodes are tried. Learning rates are "
            "chosen by the error in the episodes of training, of which there are too few to hold some back."
        ),
        paper=(
            "as published, but with a cosine, one token a step, and the episodes of Hopper and Walker2d with a score "
            "below 60 of the sets in the folder of --trajectories."
        ),
    )
    minutes = ByScale(smoke=1.0, cpu=60.0, paper=10**4)
    rule = (
        "Scores are D4RL's normalised returns, of the return that the best kept episode has as the target. Holds: on "
        "both bodies the means of mingru and of minlstm are within 5 points of attention's, or above it, and there "
        "conditioning on the return helps: attention is more than 5 points above its clone of everything, and each "
        "seed of it is above all of the clone's. In part: on one of the bodies. Positive control: conditioning helps "
        "on one body or more. Negative control: actions of a fresh model score below 15. (The rule before the runs "
        "asked for 5 points between the means alone, and said 'in part', by Hopper. But there seeds of one model are "
        "as far apart as the models are, and those of attention overlap with those of its clone: that asking helps is "
        "not shown.)"
    )

    def contestants(self, scale: Scale) -> Sequence[Contestant]:
        layers = 3 if scale == "paper" else 2
        return [
            Contestant("mingru", f"mingru:forget_bias=?*{layers}"),
            Contestant("minlstm", f"minlstm:forget_bias=?*{layers}"),
            Contestant("attention", f"attention*{layers}"),
            Contestant(CLONE, f"attention*{layers}", family="attention"),
            Contestant(BEST, f"attention*{layers}", family="attention"),
        ]

    def settings(self, scale: Scale) -> dict[str, Fit]:
        bodies = ("random hopper",) if scale == "smoke" else ("hopper", "walker2d")
        return {
            body: Fit(
                task="trajectories",
                setting={"body": body},
                pattern="",
                width={"smoke": 16, "cpu": 64, "paper": 128}[scale],
                mlp=4.0,
                dropout=0.1,
                steps={"smoke": 20, "cpu": 4000, "paper": 100_000}[scale],
                learning_rate=1e-4 if scale == "paper" else 0.0,
                warmup=10_000 if scale == "paper" else 50,
                weight_decay=1e-4 if scale == "paper" else 0.0,
                clip=0.25 if scale == "paper" else 1.0,
                evaluate={LEARNED: {}},
                sequences=64 if scale == "smoke" else 512,
                evaluations=2 if scale == "smoke" else 5,
            )
            for body in bodies
        }

    def cells(self, scale: Scale, tuned: Results) -> Sequence[Cell]:
        changes: Mapping[str, Mapping[str, Any]] = {
            CLONE: {"conditioned": False},
            BEST: {"conditioned": False, "best": 0.1},
        }
        return [
            replace(
                cell,
                options={**cell.options, "setting": {**cell.options["setting"], **changes.get(cell.model, {})}},
            )
            for cell in super().cells(scale, tuned)
        ]

    def trials(self) -> Mapping[str, Fit]:
        return {"": replace(self.settings("cpu")["hopper"], steps=500, evaluations=1)}

    def run(self, cell: Cell, watch: Watch) -> dict[str, Any]:
        from .tasks.trajectories import Trajectories, source

        fit = Fit.from_json(cell.options)
        task = Trajectories(**fit.setting)
        learned_from = {"source": source(task.body, task.below)}
        if "tuning" in cell.setting:
            return super().run(cell, watch) | learned_from
        episodes = 1 if "random" in task.body else EPISODES
        fresh, model = (self.fresh(fit, cell.seed) for _ in range(2))
        result = train(model, fit, cell.seed, lambda done, words: watch(0.8 * done, words))
        watch(0.8, "trying it")
        tried = returns(model, task, episodes)
        return result | learned_from | {"returns": tried, "fresh": returns(fresh, task, episodes)}

    def fresh(self, fit: Fit, seed: int) -> nn.Module:
        from .tasks.trajectories import Trajectories

        torch.manual_seed(seed)
        return Policy(Trajectories(**fit.setting), fit)

    def judge(self, results: Results) -> Verdict:
        bodies = results.settings()
        helps, against = [], []
        for body in bodies:
            attention, clone = (points(results, model, body) for model in ("attention", CLONE))
            helps.append(better(attention, clone) and mean(attention) > mean(clone) + MARGIN)
            against.append(f"{body} {spread(attention, 1)} against {spread(clone, 1)}")
        level = [
            helped
            and all(
                mean(points(results, model, body)) > mean(points(results, "attention", body))
                or matches(points(results, model, body), points(results, "attention", body), MARGIN)
                for model in ("mingru", "minlstm")
            )
            for body, helped in zip(bodies, helps, strict=True)
        ]
        models = results.models()
        words = "; ".join(
            f"{body}, from {_source(results, body)}: "
            + ", ".join(f"{model} {spread(points(results, model, body), 1)}" for model in models)
            for body in bodies
        )
        fresh = max(mean(points(results, "attention", body, "fresh")) for body in bodies)
        return Verdict(
            answer(holds=all(level), in_part=any(level)),
            words,
            Control(
                "attention is more than 5 points above its clone of everything, without overlap of the seeds, on one "
                "body or more",
                ", ".join(against),
                any(helps),
            ),
            Control("a fresh model scores below 15", f"{fresh:.1f}", fresh < 15),
        )

    def table(self, results: Results) -> Table:
        rows = [
            [
                body,
                model,
                spread(points(results, model, body), 1),
                spread([one["losses"][LEARNED] for one in results.of(model, body)], 4),
            ]
            for body, model in results.pairs()
        ]
        return Table(["body", "model", "score", "squared error of actions, in training episodes"], rows)

    def draw(self, results: Results, figure: Figure) -> None:
        bodies = results.settings()
        for axes, body in zip(figure.subplots(1, len(bodies), squeeze=False, sharey=True)[0], bodies, strict=True):
            models = results.models()
            _picture.dots(axes, {model: points(results, model, body) for model in models}, "D4RL score")
            axes.set_title(body, fontsize=9)


class Policy(nn.Module):
    """A `DecisionModel` that takes windows of features (B, T, 1 + S + A) -> actions at the steps that are scored,
    (N, A).
    """

    def __init__(self, task: Trajectories, fit: Fit) -> None:
        super().__init__()
        A = task.outputs
        S = task.inputs - A - 1
        self.sizes = [1, S, A]
        self.model = DecisionModel(
            S, A, width=fit.width, pattern=fit.pattern, conv=fit.conv, mlp=fit.mlp, dropout=fit.dropout
        )

    def forward(self, inputs: Tensor, scored: Tensor) -> Tensor:
        """`scored` (B, T) bool."""
        to_go, observations, before = torch.split(inputs, self.sizes, dim=-1)
        actions, _ = self.model(to_go[..., 0], observations, before)
        return actions[scored]  # type: ignore[no-any-return]


def points(results: Results, model: str, body: str, what: str = "returns") -> list[float]:
    """Normalised score of each seed, the mean of its episodes."""
    from .tasks.trajectories import normalised

    return [normalised(body, mean(one[what])) for one in results.of(model, body)]


def _source(results: Results, body: str) -> str:
    """What all cells of a body learned from. Raises UserError where it was not the same."""
    found = {one["source"] for model in results.models(body) for one in results.of(model, body)}
    if len(found) > 1:
        raise UserError(
            f"the cells of {body} learned from different files: {', '.join(sorted(found))}; remove those of one of "
            "them and run the experiment again"
        )
    (only,) = found
    return str(only)


def returns(model: nn.Module, task: Trajectories, episodes: int) -> list[float]:
    """What the policy earns in episodes that run side by side, when it is asked for the best return of its data. At
    each step it sees the newest `context` steps, as in training.
    """
    import numpy as np

    from ._collect import environment
    from .tasks.trajectories import ENVIRONMENT, chosen

    model.eval()
    worlds = [environment(ENVIRONMENT[task.body.removeprefix("random ")]) for _ in range(episodes)]
    observations = [world.reset(seed=1000 + number)[0] for number, world in enumerate(worlds)]
    earned = np.zeros(episodes)
    target = chosen(task)[0].score
    action = np.zeros((episodes, task.outputs), dtype=np.float32)
    window: list[Any] = []
    running = set(range(episodes))
    low, high = worlds[0].action_space.low, worlds[0].action_space.high
    while running:
        window = [*window, task.features(target - earned, np.array(observations), action)][-task.context :]
        with torch.no_grad():
            x = torch.from_numpy(np.stack(window, axis=1))  # (B, T, 1 + S + A)
            last = torch.zeros(x.shape[:2], dtype=torch.bool)
            last[:, -1] = True
            action = np.clip(model(x, last).numpy(), low, high)
        for number in list(running):
            observation, reward, terminated, truncated, _ = worlds[number].step(action[number])
            observations[number] = observation
            earned[number] += reward
            if terminated or truncated:
                running.remove(number)
    return [round(float(one), 2) for one in earned]
