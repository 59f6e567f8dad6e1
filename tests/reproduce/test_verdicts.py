"""Verdicts are those that the data carry: made-up results lead to the answers of the rules."""

from __future__ import annotations

from typing import Any

import pytest

from minrnn.errors import UserError
from minrnn.reproduce import _judging, load
from minrnn.reproduce._experiment import Cell, Verdict

from .conftest import cells_of, judged


def test_sets_of_seeds_that_differ_decide_nothing() -> None:
    def verdict(*steps: int) -> str:
        """When the plain Transformer takes so many steps, with the first seeds and with the second."""

        def result(cell: Cell) -> dict[str, Any]:
            if cell.model == "all":
                return {"milliseconds": dict.fromkeys(cell.options["fits"], 1.0)}
            bare, plain = cell.model == "mingru alone, 1 layer", cell.model == "attention, plain block"
            last = 2.0 if bare else 1.7 if plain else 1.5
            reached = steps[cell.seed // 3] if plain else 400
            curve = [{"step": reached, "held_out": {"held out": {"loss": last}}}]
            return {"steps": 900, "curve": curve, "losses": {"held out": last}}

        return judged("shakespeare", result).answer

    assert verdict(700, 700) == "does not hold" and verdict(850, 850) == "holds in part"
    assert verdict(700, 850) == "undecidable at this scale"


def test_costs_to_a_loss_are_told_apart_by_every_seed() -> None:
    def verdict(*steps: int) -> Verdict:
        """When mingru takes so many steps, with its seeds, to where the others are after 400, one once after 300."""

        def result(cell: Cell) -> dict[str, Any]:
            if cell.model == "all":
                cost = {name: 1.0 if "mingru" in name else 2.0 for name in cell.options["fits"]}
                return {"a token": {what: {"processor seconds": cost} for what in ("training", "generating")}}
            once = cell.model == "attention" and cell.seed == 1
            reached = steps[cell.seed] if "mingru" in cell.model else 300 if once else 400
            curve = [{"step": reached, "held_out": {"held out": {"loss": 1.5}}}]
            return {"parameters": 1, "curve": curve, "losses": {"held out": 1.5}}

        return judged("energy", result)

    assert verdict(300, 500, 599).answer == "holds" and verdict(300, 500, 601).answer == "holds in part"
    assert "mingru 1,912,832 (1,228,800 to 2,461,696) s" in verdict(300, 500, 601).because


def test_a_lead_that_shrinks_is_no_better_scaling() -> None:
    settings = list(dict.fromkeys(cell.setting for cell in cells_of(load("scaling"))))

    def verdict(*lead: float) -> str:
        """When mingru leads attention by so much, from size to size, and the hybrid gets worse."""

        def result(cell: Cell) -> dict[str, Any]:
            size = settings.index(cell.setting)
            losses = {"attention": 2 - 0.1 * size, "mingru": 2 - 0.1 * size - lead[size], "hybrid": 2.0 + size}
            return {"losses": {"held out": losses[cell.model]}}

        return judged("scaling", result).answer

    assert verdict(0.03, 0.03, 0.03, 0.04) == "holds"
    assert verdict(0.04, 0.03, 0.03, 0.03) == verdict(0.03, 0.03, 0.01, 0.04) == "holds in part"
    assert verdict(0.01, 0.01, 0.01, 0.01) == "does not hold"


def test_gates_are_compared_where_seeds_of_one_model_are_alike() -> None:
    def verdict(*sets: float, mlp: float = 0.5) -> str:
        """When the linear model copies so well, set by set of its seeds, and the MLP as given."""

        def result(cell: Cell) -> dict[str, Any]:
            if cell.model == "all":
                return {"milliseconds": dict.fromkeys(cell.options["fits"], 1.0)}
            score = 0.1 if "1 layer" in cell.model else mlp if "MLP" in cell.model else sets[cell.seed // 3]
            return {"curve": [{"step": 2000, "held_out": {"held out": {"score": score, "loss": 1.5}}}]}

        return judged("gates", result).answer

    assert verdict(0.5, 0.6, 0.5, 0.5) == "holds" and verdict(0.5, 0.6, 0.5, 0.6) == "undecidable at this scale"
    assert verdict(0.5, 0.5, 0.5, 0.5, mlp=0.6) == "holds in part"


def test_half_lives_have_moved_where_they_have_with_every_seed() -> None:
    def verdict(*half_lives: float) -> str:
        """When the middle channel of one layer of mingru has such half-lives, with its seeds, after 1.0."""

        def result(cell: Cell) -> dict[str, Any]:
            moved = half_lives[cell.seed] if cell.setting != "fresh" and cell.model == "mingru" else 1.0
            layers = [{"half_lives": [0.1, 0.2, middle, 3.0, 4.0], "fixed": 0.6} for middle in (1.0, moved)]
            point = {"measured": 0.5, "filter": 0.5, "twice": 0.7, "impulse_error": 0.0}
            return {"layers": layers, "without_weights": [{"fixed": 1.0}], "response": [point]}

        return judged("filters", result).answer

    assert verdict(3.0, 0.3, 3.0) == "holds" and verdict(3.0, 0.3, 1.0) == "holds in part"


def test_each_fresh_model_is_counted_once() -> None:
    cells = cells_of(load("gradients"))
    for model in {cell.model for cell in cells}:
        assert sorted(cell.seed for cell in cells if cell.model == model) == [0, 1, 2, 3, 4]


def test_policies_that_learned_from_different_files_are_not_compared() -> None:
    def verdict(source: str) -> Verdict:
        """When the seeds after the first learned from this."""

        def result(cell: Cell) -> dict[str, Any]:
            return {"returns": [2000.0], "fresh": [10.0], "source": source if cell.seed else "57 of 60 episodes"}

        return judged("offline-rl", result)

    assert "hopper, from 57 of 60 episodes: mingru 62.1" in verdict("57 of 60 episodes").because
    with pytest.raises(UserError, match="cells of hopper learned from different files: 11 of 42 episodes, 57 of 60"):
        verdict("11 of 42 episodes")


def test_policies_whose_seeds_overlap_with_those_of_a_clone_decide_nothing() -> None:
    def verdict(*clone: float) -> str:
        """When every policy returns 2,000, and the clone of everything so much, with its seeds."""

        def result(cell: Cell) -> dict[str, Any]:
            returned = clone[cell.seed] if cell.model == "clone of everything" else 2000.0
            return {"returns": [returned], "fresh": [10.0], "source": "60 of 60 episodes"}

        return judged("offline-rl", result).answer

    assert verdict(1000, 1000, 1990) == "holds"
    assert verdict(1000, 1000, 2010) == "undecidable at this scale"


def test_the_words_of_the_rules() -> None:
    assert _judging.solved([0.995, 0.2, 0.99]) and not _judging.solved([0.995, 0.2, 0.98])
    assert _judging.better([3, 4], [1, 2.9]) and not _judging.better([3, 4], [1, 3])
    first, second = [5.0, 6.0, 7.0], [8.0, 9.0, 9.5]  # of two sets each is compared with its own
    assert _judging.better(first + second, [1.0, 2.0, 3.0, 6.0, 7.0, 7.5])
    assert not _judging.better(first + second, [1.0, 2.0, 3.0, 6.0, 7.0, 8.0])
    assert _judging.better(first + second, [4.0]) and not _judging.better(first + second, [5.0])
    assert _judging.matches([1.0, 1.2], [1.09], 0.02) and not _judging.matches([1.0, 1.2], [1.13], 0.02)
    assert _judging.percent([0.5, 0.75]) == "62.5 (50.0 to 75.0)" and _judging.percent([1.0]) == "100.0"
