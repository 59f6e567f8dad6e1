"""`replace_recurrent` on models that others published, as they are: a forecaster, a tagger and a policy.

`make public` installs their packages and runs this file; elsewhere each test says in its name what it waits for. The
same steps are trained before and after, on the same data, and the loss has to fall both times.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from minrnn import MinGRU, MinLSTM, replace_recurrent

pytestmark = pytest.mark.filterwarnings("ignore")  # of packages that are not ours


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make public")


def losses(model: nn.Module, loss: Callable[[], Tensor], steps: int = 30, rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    values = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


def before_and_after(model: nn.Module, loss: Callable[[], Tensor], names: list[str], kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    before = losses(model, loss)
    done = replace_recurrent(model)
    assert done.replaced == names and not done.kept
    assert all(isinstance(model.get_submodule(name), kind) for name in names)
    after = losses(model, loss)
    print(f"loss before {before[0]:.3f} -> {before[-1]:.3f}, after {after[0]:.3f} -> {after[-1]:.3f}")
    assert before[-1] < 0.9 * before[0] and after[-1] < 0.9 * after[0]


@needs("gluonts", "lightning")
def test_the_forecaster_deepar_where_gluonts_is_installed() -> None:
    from gluonts.torch.model.deepar.module import DeepARModel

    torch.manual_seed(0)
    model = DeepARModel(freq="h", context_length=24, prediction_length=6, lags_seq=[1, 2, 12], num_parallel_samples=5)
    B, past = 8, model._past_length
    time = torch.arange(past + 6) + torch.randint(24, (B, 1))
    series = torch.sin(time * 2 * torch.pi / 12) + 2  # (B, T)
    feature = torch.sin(time * 2 * torch.pi / 24)[..., None]
    given = {
        "feat_static_cat": torch.zeros(B, 1, dtype=torch.int64),
        "feat_static_real": torch.zeros(B, 1),
        "past_time_feat": feature[:, :past],
        "past_target": series[:, :past],
        "past_observed_values": torch.ones(B, past),
        "future_time_feat": feature[:, past:],
    }
    before_and_after(
        model, lambda: 3 - model.log_prob(**given, future_target=series[:, past:]).mean(), ["rnn"], MinLSTM
    )
    assert model(**given).shape == (B, 5, 6)  # samples one step at a time, states handed on as a list


@needs("bi_lstm_crf")
@pytest.mark.parametrize("rnn", ["lstm", "gru"])
def test_the_tagger_bi_lstm_crf_where_it_is_installed(rnn: str) -> None:
    from bi_lstm_crf import BiRnnCrf

    torch.manual_seed(0)
    model = BiRnnCrf(vocab_size=20, tagset_size=4, embedding_dim=16, hidden_dim=32, rnn=rnn)
    words = torch.randint(1, 20, (16, 11))
    for row, length in zip(words, torch.randint(3, 12, (16,)), strict=True):
        row[length:] = 0  # padding, by which the model packs
    tags = words % 4
    before_and_after(model, lambda: model.loss(words, tags), ["rnn"], {"lstm": MinLSTM, "gru": MinGRU}[rnn])
    scores, paths = model(words)
    assert len(paths) == 16 and scores.shape == (16,)


@needs("sb3_contrib", "gymnasium")
def test_the_policy_of_recurrent_ppo_where_sb3_contrib_is_installed() -> None:
    from sb3_contrib import RecurrentPPO
    from sb3_contrib.common.recurrent.type_aliases import RNNStates

    options: dict[str, Any] = {"lstm_hidden_size": 32, "net_arch": [32]}
    agent = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=32, batch_size=32, seed=0, policy_kwargs=options)
    policy = agent.policy
    observations = torch.randn(4 * 12, 4)  # 4 sequences of 12 steps, some of which begin anew
    actions = (observations[:, 0] > 0).long()
    starts = (torch.rand(4 * 12) < 0.1).float()

    def loss() -> Tensor:
        zeros = torch.zeros(1, 4, 32)
        states = RNNStates((zeros, zeros), (zeros, zeros))
        _, log_probabilities, _ = policy.evaluate_actions(observations, actions, states, starts)
        return -log_probabilities.mean()

    before_and_after(policy, loss, ["lstm_actor", "lstm_critic"], MinLSTM)
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=1e-3)
    agent.learn(128)
    _, states = agent.predict(agent.get_env().reset())
    _, states = agent.predict(agent.get_env().reset(), state=states)
    assert states[0].shape == (1, 1, 32)
