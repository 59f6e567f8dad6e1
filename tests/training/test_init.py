"""A run that begins with the weights of another."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minrnn.errors import UserError
from minrnn.training import TrainConfig, evaluate, load_run, resume, train

Small = Callable[..., TrainConfig]


def test_begins_where_the_other_ended(small: Small, tmp_path: Path, text: Path) -> None:
    first = train(small("first", steps=60, learning_rate=0.02, evaluate_every=60), quiet=True)
    other = tmp_path / "other.txt"
    other.write_text("the fence jumped over 9 sheep; " * 60)  # no character is new
    config = small("tuned", data=str(other), steps=1, learning_rate=1e-9, pattern="mingru*6", width=384)
    tuned = train(config, init=first.folder, quiet=True)
    begun, ended = load_run(first.folder), load_run(tuned.folder)
    assert ended.tokenizer.to_json() == begun.tokenizer.to_json()
    assert (ended.config.pattern, ended.config.width, ended.config.data) == ("mingru*1", 16, str(other))
    for name, weight in begun.model.state_dict().items():
        torch.testing.assert_close(ended.model.state_dict()[name], weight, rtol=0, atol=1e-6)
    part = begun.tokenizer.encode(other.read_text())
    assert evaluate(ended.model, part, characters=len(part), context=16).nats_per_token == pytest.approx(
        evaluate(begun.model, part, characters=len(part), context=16).nats_per_token, abs=1e-4
    )


def test_stopped_before_its_first_checkpoint_it_begins_there_again(small: Small, tmp_path: Path) -> None:
    first = train(small("first", steps=8), quiet=True)
    config = small("whole", steps=4, evaluate_every=4)
    whole = train(config, init=first.folder, quiet=True)
    stopped = train(
        replace(config, out=str(tmp_path / "stopped")), init=first.folder, should_stop=lambda: True, quiet=True
    )
    assert stopped.step == 0
    first.folder.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=r"first/model\.safetensors is gone, which .*stopped begins with; put the run back"
    ):
        resume(stopped.folder, quiet=True)
    (tmp_path / "moved").rename(first.folder)
    resume(stopped.folder, quiet=True)
    left, right = (load_file(one.folder / "model.safetensors") for one in (whole, stopped))
    for name, weight in left.items():
        assert torch.equal(weight, right[name])
    shutil.rmtree(first.folder)  # is not needed once there is a checkpoint
    assert resume(stopped.folder, quiet=True).finished


def test_what_does_not_fit(small: Small, tmp_path: Path) -> None:
    first = train(small("first", steps=4), quiet=True)
    with pytest.raises(
        UserError, match=r"width should be 32, but the weights of --init .*first are of width 16; leave"
    ):
        train(small("other", width=32), init=first.folder, quiet=True)
    with pytest.raises(UserError, match="is the run of --init, which has to stay"):
        train(small("first"), init=first.folder, overwrite=True, quiet=True)
    with pytest.raises(UserError, match="there is no run folder"):
        train(small("other"), init=tmp_path / "none", quiet=True)
    (tmp_path / "new.txt").write_text("ÄÖ" * 500)
    with pytest.raises(UserError, match="not among the"):
        train(small("other", data=str(tmp_path / "new.txt")), init=first.folder, quiet=True)
    assert not (tmp_path / "other").exists()


def test_the_other_run_has_to_be_what_it_was(small: Small) -> None:
    first = train(small("first", steps=4), quiet=True)
    stopped = train(small("tuned"), init=first.folder, should_stop=lambda: True, quiet=True)
    train(small("first", steps=8, width=24), overwrite=True, quiet=True)
    with pytest.raises(UserError, match=r"first has changed since .*tuned began with it"):
        resume(stopped.folder, quiet=True)
