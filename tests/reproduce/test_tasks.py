"""Each task's answers, worked out again from its text by other means, and against files of the reference generators."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minrnn.reproduce import tasks
from minrnn.reproduce.listops import SHALLOW
from minrnn.reproduce.tasks import chomsky, listops, words

GOLDEN = Path(os.environ.get("MINRNN_GOLDEN", Path(__file__).parents[3] / "shared" / "data"))


def golden(name: str) -> str:
    """The text of a file of the reference generators."""
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"{name} is absent: it is no part of the project")
    return path.read_text()


def draw(name: str, size: int = 50, seed: int = 0, **setting: Any) -> list[tuple[list[Any], list[int], list[Any]]]:
    """Inputs, scored steps and targets of each sequence."""
    task = tasks.make(name, setting)
    batch = task.batch(np.random.default_rng(seed), size)
    assert batch.inputs.dtype == (torch.float32 if task.real else torch.int64)
    if not task.real:
        assert int(batch.inputs.min()) >= 0 and int(batch.inputs.max()) < task.inputs
        assert int(batch.targets.min()) >= 0 and int(batch.targets.max()) < task.outputs
    assert len(batch.targets) == int(batch.scored.sum())
    rows, at = [], 0
    for inputs, scored in zip(batch.inputs.tolist(), batch.scored, strict=True):
        steps = scored.nonzero().flatten().tolist()
        rows.append((inputs, steps, batch.targets[at : at + len(steps)].tolist()))
        at += len(steps)
    return rows


@pytest.mark.parametrize(("convention", "steps"), [("minrnn", 4112), ("s4", 4128)])
def test_selective_copying_asks_for_the_data_in_order(convention: str, steps: int) -> None:
    noise, marker = (15, 0) if convention == "minrnn" else (0, 15)
    for inputs, scored, targets in draw("selective copying", 5, convention=convention):
        assert len(inputs) == steps
        assert scored == list(range(steps - 16, steps)) and {inputs[step] for step in scored} == {marker}
        assert targets == [token for token in inputs[: steps - 16] if token != noise]


def formal(name: str, seed: int) -> list[tuple[list[int], list[int]]]:
    """Texts and answers; what follows the text is EMPTY, one for each answer."""
    task = tasks.make(name, {"shortest": 1, "longest": 30})
    found = []
    for inputs, scored, targets in draw(name, 20, seed, shortest=1, longest=30):
        assert scored == list(range(len(inputs) - len(targets), len(inputs)))
        assert {inputs[step] for step in scored} == {task.inputs - 1}
        found.append((inputs[: scored[0]], targets))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_answers_of_formal_tasks(seed: int) -> None:
    solvers = {
        "bucket sort": lambda text: sorted(text),
        "cycle navigation": lambda text: [(text.count(2) - text.count(0)) % 5],
        "even pairs": lambda text: [int(text[0] != text[-1])],
        "majority": lambda text: [max(text, key=lambda token: (text.count(token), token))],
        "majority count": lambda text: [Counter(text).most_common(1)[0][1]],
        "parity": lambda text: [text.count(1) % 2],
    }
    for name, solve in solvers.items():
        for text, answer in formal(name, seed):
            assert answer == solve(text), name


@pytest.mark.parametrize("seed", range(5))
def test_missing_duplicate_asks_for_the_token_that_comes_next(seed: int) -> None:
    for text, (answer,) in formal("missing duplicate", seed):
        # The text has L + k tokens, and its first L are no repetition: some split of it must fit.
        splits = [L for L in range(len(text) // 2 + 1, len(text) + 1) if text[L:] == text[: len(text) - L]]
        assert any(text[len(text) - L] == answer for L in splits)


def test_formal_tasks_agree_with_the_reference_generators() -> None:
    file = json.loads(golden("chomsky_golden.json"))
    ours = {
        "regular.cycle_navigation": chomsky.CycleNavigation,
        "regular.even_pairs": chomsky.EvenPairs,
        "regular.parity_check": chomsky.Parity,
        "cs.bucket_sort": chomsky.BucketSort,
    }
    for name, task in ours.items():
        for sample in file[name]["samples"].values():
            assert task.answer(np.array(sample["input"])).tolist() == sample["output"], name


def test_every_question_of_multi_query_recall_has_its_answer() -> None:
    for inputs, scored, targets in draw("multi-query recall", length=64, pairs=8, vocabulary=128):
        pairs = dict(zip(inputs[:16:2], inputs[1:16:2], strict=True))
        assert len(pairs) == len(set(pairs.values())) == len(targets) == 8
        assert [pairs[inputs[step]] for step in scored] == targets
        assert all(inputs[step] == 0 for step in range(16, 64) if step not in scored)


def test_multi_query_recall_agrees_with_the_reference_generator() -> None:
    for case in json.loads(golden("mqar_golden.json"))["cases"]:
        options = case["kwargs"]
        task = tasks.make(
            "multi-query recall",
            {
                "length": options["input_seq_len"],
                "pairs": options["num_kv_pairs"],
                "vocabulary": options["vocab_size"],
            },
        )
        batch = task.batch(np.random.RandomState(options["seed"]), options["num_examples"])  # type: ignore[arg-type]
        assert batch.inputs.tolist() == case["inputs"]
        labels = torch.full(batch.inputs.shape, -100)
        labels[batch.scored] = batch.targets
        assert labels.tolist() == case["labels"]


@pytest.mark.parametrize("question", ["before", "after"])
def test_one_question_asks_for_the_value_of_its_key(question: str) -> None:
    for inputs, scored, targets in draw("one question", pairs=5, question=question, vocabulary=42):
        mark = inputs.index(40)
        assert mark == (0 if question == "before" else 10) and scored == [12] and inputs[12] == 41
        text = inputs[2:12] if question == "before" else inputs[:10]
        pairs = dict(zip(text[::2], text[1::2], strict=True))
        assert len(pairs) == 5 and targets == [pairs[inputs[mark + 1]]]


def test_copying_predicts_the_text_from_its_bar_on() -> None:
    for inputs, scored, targets in draw("copying", shortest=7, longest=7):
        assert inputs[7] == 26 and scored == list(range(7, 14))
        assert targets == inputs[:7] and inputs[8:] == targets[:-1]


def test_reference_lists_have_our_values() -> None:
    for line in golden("listops_golden.tsv").splitlines()[1:]:
        text, answer, length = line.split("\t")
        tree = listops.read(text.split())
        assert listops.value(tree) == int(answer)
        assert listops.written(tree) == text.split() and len(text.split()) == int(length)


@pytest.mark.parametrize(
    ("text", "answer"), [("[MED 1 4 ]", 2), ("[SM 9 9 [MAX 2 3 ] ]", 1), ("[MIN 5 [MED 7 1 3 ] ]", 3), ("8", 8)]
)
def test_values_of_lists(text: str, answer: int) -> None:
    assert listops.value(listops.read(text.split())) == answer


def test_lists_are_asked_for_at_their_last_word() -> None:
    for inputs, (step,), (answer,) in draw("listops", 30, shortest=10, longest=40, trees=50):
        text = [listops.WORDS[token] for token in inputs[: step + 1]]
        assert 10 <= len(text) <= 40 and set(inputs[step + 1 :]) <= {listops.PADDING}
        assert listops.value(listops.read(text)) == answer


def test_a_guess_without_the_nested_lists_has_what_the_experiment_says() -> None:
    def outermost(tree: Any) -> tuple[str, int]:
        digits = [part for part in tree[1] if isinstance(part, int)]
        return tree[0], listops.value((tree[0], digits)) if digits else -1

    rng = random.Random(0)
    drawn = (listops.draw(rng, 10, 100) for _ in itertools.count())
    trees = list(itertools.islice((tree for tree in drawn if tree and len(listops.written(tree)) >= 10), 4000))
    counts: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for tree in trees[:2500]:
        counts[outermost(tree)][listops.value(tree)] += 1
    right = [counts[outermost(tree)].most_common(1)[0][0] == listops.value(tree) for tree in trees[2500:]]
    assert sum(right) / len(right) == pytest.approx(SHALLOW, abs=0.04)  # 1,500 trees: three deviations


def test_drawn_trees_are_as_long_as_they_may_be_and_of_all_shapes() -> None:
    rng = random.Random(0)
    trees = [tree for _ in range(3000) if (tree := listops.draw(rng, 4, 40)) is not None]
    lengths = [len(listops.written(tree)) for tree in trees]
    assert max(lengths) == 40 and min(lengths) >= 4

    def depth(tree: Any) -> int:
        return 1 if isinstance(tree, int) else 1 + max(map(depth, tree[1]))

    assert {depth(tree) for tree in trees} == {2, 3, 4}
    flat = [tree for tree in trees if depth(tree) == 2]
    # A list of n digits has probability 0.75^n / 9: few arguments are likely, and ten are seen.
    sizes = Counter(len(tree[1]) for tree in flat)  # type: ignore[arg-type, index]
    assert sizes[2] / len(flat) == pytest.approx(0.75**2 / sum(0.75**n for n in range(2, 11)), abs=0.05)
    assert set(sizes) == set(range(2, 11))


def test_lists_that_are_held_out_are_not_those_of_training() -> None:
    task = tasks.make("listops", {"shortest": 20, "longest": 60, "trees": 200})
    assert isinstance(task, listops.ListOps)
    learned = {tuple(tokens.tolist()) for tokens, _ in listops.drawn(task, 200, 0)}
    (batch,) = task.held_out(100, 100)
    held_out = {tuple(row[row != listops.PADDING].tolist()) for row in batch.inputs}
    assert len(held_out) == 100 and not learned & held_out


@pytest.mark.parametrize(("group", "order"), [("Z2", 2), ("S3", 6), ("A5", 60)])
def test_products_of_words_are_those_of_the_permutations(group: str, order: int) -> None:
    generators = words.GENERATORS[group]
    points = len(generators[0])
    assert len(words.multiplication(group)) == order
    number: dict[tuple[int, ...], int] = {}
    for inputs, _, targets in draw("group words", 40, group=group, shortest=20, longest=20):
        product = np.eye(points, dtype=int)
        for letter, target in zip(inputs, targets, strict=True):
            product = product @ np.eye(points, dtype=int)[list(generators[letter])]
            key = tuple(product.flatten().tolist())
            assert number.setdefault(key, target) == target  # one number for one permutation
    assert len(set(number.values())) == len(number)


def test_a_scratchpad_is_what_the_model_should_have_written() -> None:
    plain = draw("group words", group="S3", shortest=9, longest=9)
    with_pad = draw("group words", group="S3", shortest=9, longest=9, scratchpad=True)
    for (letters, _, products), (inputs, scored, targets) in zip(plain, with_pad, strict=True):
        assert inputs[::2] == letters and targets == products and scored == list(range(0, 18, 2))
        assert [token - 2 for token in inputs[1::2]] == products


def test_the_sum_of_the_marked_numbers_is_asked_for_at_the_end() -> None:
    for inputs, scored, targets in draw("adding", length=50):
        marked = [step for step, (_, mark) in enumerate(inputs) if mark]
        assert len(marked) == 2 and marked[0] < 25 <= marked[1] and scored == [49]
        assert targets[0][0] == pytest.approx(sum(inputs[step][0] for step in marked), abs=1e-6)


def test_copy_memory() -> None:
    for inputs, scored, targets in draw("copy memory", length=30):
        assert inputs[:10] == targets and set(inputs[10:40]) == {0} and inputs[40:] == [9] * 10
        assert scored == list(range(40, 50))


def test_held_out_text_is_read_once_and_whole() -> None:
    task = tasks.make("text", {"source": "python-docs", "context": 100})
    from minrnn.reproduce.tasks.text import encoded

    _, text, _ = encoded("python-docs")
    batches = list(task.held_out(10**6, 64))
    assert torch.cat([batch.targets for batch in batches]).equal(text[1:])
    assert torch.cat([batch.inputs.flatten() for batch in batches]).equal(text[:-1])


def test_a_share_of_the_text_is_its_beginning() -> None:
    task = tasks.make("text", {"source": "python-docs", "context": 50, "share": 0.001})
    from minrnn.reproduce.tasks.text import encoded

    text = encoded("python-docs")[0][: int(0.001 * len(encoded("python-docs")[0]))]
    batch = task.batch(np.random.default_rng(0), 200)
    beginnings = {tuple(text[start : start + 50].tolist()) for start in range(len(text) - 50)}
    assert {tuple(row.tolist()) for row in batch.inputs} <= beginnings


@pytest.mark.parametrize("name", ["selective copying", "majority", "adding"])
def test_what_is_held_out_is_the_same_whoever_asks(name: str) -> None:
    first, again = ([batch.targets for batch in tasks.make(name, {}).held_out(10, 4)] for _ in range(2))
    assert [len(part) for part in first] == [len(part) for part in again]
    assert all(one.equal(other) for one, other in zip(first, again, strict=True))
