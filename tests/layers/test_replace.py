"""`replace_recurrent` swaps torch's layers in place, keeps their interface, and says what it left."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from minrnn import MinGRU, MinLSTM, replace_recurrent


class Tagger(nn.Module):
    """What people write: embedding, packed bidirectional LSTM, unpacked, a GRU over it, and the last states."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.encoder = nn.LSTM(6, 8, 2, batch_first=True, dropout=0.1, bidirectional=True)
        self.blocks = nn.ModuleList([nn.GRU(16, 8), nn.Sequential(nn.Linear(8, 8))])
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.encoder.flatten_parameters()
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        packed, (h_n, c_n) = self.encoder(packed)
        assert h_n.shape == c_n.shape == (4, len(tokens), 8)
        x, _ = pad_packed_sequence(packed, batch_first=True)
        x, h_n = self.blocks[0](x.transpose(0, 1))
        return self.head(self.blocks[1](h_n[-1]))  # type: ignore[no-any-return]


def test_a_model_learns_before_and_after() -> None:
    torch.manual_seed(0)
    model = Tagger()
    tokens, lengths = torch.randint(20, (16, 9)), torch.randint(1, 10, (16,))
    targets = tokens[:, 0] % 3
    for replace in (False, True):
        if replace:
            done = replace_recurrent(model)
            assert done.replaced == ["encoder", "blocks.0"] and not done.kept
            assert isinstance(model.encoder, MinLSTM) and isinstance(model.blocks[0], MinGRU)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for _ in range(40):
            loss = nn.functional.cross_entropy(model(tokens, lengths), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]


def test_what_is_kept() -> None:
    old = nn.LSTM(4, 5, 3, bias=False, batch_first=True, dropout=0.5, bidirectional=True, dtype=torch.float64)
    model = nn.ModuleDict({"rnn": old.requires_grad_(False)}).eval()
    assert replace_recurrent(model).replaced == ["rnn"]
    new = model["rnn"]
    assert isinstance(new, MinLSTM) and new.pair and not new.training
    for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        assert getattr(new, name) == getattr(old, name), name
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in new.parameters())
    assert new.extra_repr().startswith(old.extra_repr())


def test_one_module_in_two_places_stays_one() -> None:
    shared = nn.GRU(4, 4)
    model = nn.Sequential(shared, nn.Identity(), shared)
    assert replace_recurrent(model).replaced == ["0", "2"]
    assert model[0] is model[2]


class Special(nn.GRU):
    """Somebody's own."""


def test_what_cannot_go_is_named_with_the_reason() -> None:
    hooked = nn.GRU(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    modules = {
        "cell": nn.GRUCell(4, 4),
        "plain": nn.RNN(4, 4),
        "projected": nn.LSTM(4, 4, proj_size=2),
        "special": Special(4, 4),
        "hooked": hooked,
    }
    model = nn.ModuleDict(modules)
    done = replace_recurrent(model)
    assert not done.replaced
    assert all(model[name] is module for name, module in modules.items())
    reasons = {"cell": "GRUCell", "plain": "RNN", "projected": "proj_size=2", "special": "Special", "hooked": "hooks"}
    assert done.kept.keys() == reasons.keys()
    assert all(word in done.kept[name] for name, word in reasons.items())


@pytest.mark.parametrize("module", [nn.GRU(3, 3), nn.LSTM(3, 3)], ids=["gru", "lstm"])
def test_the_model_itself_cannot_be_replaced(module: nn.Module) -> None:
    assert replace_recurrent(module).kept.keys() == {""}
    assert "nothing holds it" in replace_recurrent(module).kept[""]


def test_frozen_weights_stay_frozen_each_for_itself() -> None:
    model = nn.ModuleDict({"rnn": nn.GRU(3, 4, 2)})
    for name, parameter in model["rnn"].named_parameters():
        parameter.requires_grad_("l0" not in name)
    replace_recurrent(model)
    trained = {name: parameter.requires_grad for name, parameter in model["rnn"].named_parameters()}
    assert trained == {"weight_ih_l0": False, "bias_ih_l0": False, "weight_ih_l1": True, "bias_ih_l1": True}
