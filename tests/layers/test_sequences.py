"""Padded, packed and reset sequences, in every layout, dtype and backend, against each sequence alone.

One table: a case is a layer, its depth and directions, how sequences stand in the batch, and T. Its expectation comes
from unbatched float64 calls of the definition, one for each stretch between resets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from minrnn import MinGRU, MinLSTM
from minrnn.recurrence import _recompute, backend

B, D, H = 4, 3, 5

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mingru": (MinGRU, {}),
    "mingru g no bias": (MinGRU, {"activation": "g", "bias": False}),
    "mingru expanded": (MinGRU, {"expansion": 1.5}),
    "minlstm tanh": (MinLSTM, {"activation": "tanh"}),
    "minlstm not normalised": (MinLSTM, {"normalize": False, "forget_bias": 1.0}),
}
DEPTHS = {"1 layer": (1, False), "2 layers, 2 directions": (2, True)}
BATCHES = ["whole", "lengths", "packed", "packed as it comes", "reset"]
IMPLEMENTATIONS = ["cpu", "cpu recomputed", "torch", "definition"]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.15}


@dataclass(frozen=True)
class Case:
    """Float64 tensors, batch-major. Gradients are of `sum(out * dout) + sum(h_n * dh_n)`."""

    weights: dict[str, Tensor]
    x: Tensor  # (B, T, D)
    h_0: Tensor  # (L * directions, B, S)
    lengths: Tensor  # (B,)
    reset: Tensor  # (B, T)
    upstream: tuple[Tensor, Tensor]
    expected: tuple[Tensor, ...]  # out, h_n, and the gradients of x, h_0 and all weights


def build(layer: str, depth: str, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    kind, options = LAYERS[layer]
    layers, bidirectional = DEPTHS[depth]
    return kind(D, H, layers, bidirectional=bidirectional, dtype=dtype, **options, **more)


@cache
def case(layer: str, depth: str, batch: str, T: int) -> Case:
    torch.manual_seed(T)
    module = build(layer, depth, batch_first=True)
    directions = 1 + module.bidirectional
    x = torch.randn(B, T, D, dtype=torch.float64).requires_grad_()
    h_0 = torch.rand(module.num_layers * directions, B, module.state_size, dtype=torch.float64).requires_grad_()
    shortest = 1 if "packed" in batch else 0  # torch packs no empty sequence
    lengths = torch.full((B,), T)
    if batch not in ("whole", "reset"):
        lengths = torch.tensor([T, shortest, (T + 1) // 2, max(T - 1, shortest)])
        lengths = lengths if batch == "packed as it comes" else lengths.sort(descending=batch == "packed").values
    reset = torch.rand(B, T) < (0.3 if batch == "reset" else 0.0)
    out, h_n = alone(module, x, h_0, lengths, reset)
    upstream = torch.randn_like(out), torch.randn_like(h_n)
    gradients = torch.autograd.grad(
        (out, h_n), (x, h_0, *module.parameters()), upstream, materialize_grads=True, allow_unused=True
    )
    expected = tuple(tensor.detach() for tensor in (out, h_n, *gradients))
    weights = {name: w.detach() for name, w in module.state_dict().items()}
    return Case(weights, x.detach(), h_0.detach(), lengths, reset, upstream, expected)


def alone(module: Any, x: Tensor, h_0: Tensor, lengths: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """Each stretch of each sequence in a call of its own."""
    directions = 1 + module.bidirectional
    outs, states = [], []
    for b in range(B):
        length = int(lengths[b])
        cuts = [0, *(t for t in range(1, length) if reset[b, t]), length]
        stretches = list(pairwise(cuts)) if length else []
        pieces, ends = [], []
        for number, (start, stop) in enumerate(stretches):
            initial = torch.zeros_like(h_0[:, b])
            begins = [number == 0 and not reset[b, 0], number == len(stretches) - 1]  # forwards, backwards
            initial = torch.stack([h_0[i, b] if begins[i % directions] else initial[i] for i in range(len(initial))])
            with backend("definition"):
                piece, end = module(x[b, start:stop], initial)
            pieces.append(piece)
            ends.append(end)
        padding = x.new_zeros(x.shape[1] - length, directions * H)
        outs.append(torch.cat([*pieces, padding]))
        rows = range(len(h_0))
        last = [(ends[-1] if i % directions == 0 else ends[0])[i] if ends else h_0[i, b] for i in rows]
        # The first stretch ends where the backward direction meets its beginning: a reset there leaves zeros behind.
        states.append(torch.stack(last))
    return torch.stack(outs) + 0 * x.sum(), torch.stack(states, dim=1)  # also without steps it depends on x


def call(module: Any, batch: str, x: Tensor, h_0: Tensor, given: Case) -> tuple[Tensor, Tensor]:
    """The call that the batch asks for; out comes back batch-major and padded."""
    laid = x if module.batch_first else x.transpose(0, 1)
    if "packed" in batch:
        ordered = batch == "packed"
        packed = pack_padded_sequence(laid, given.lengths, module.batch_first, enforce_sorted=ordered)
        out, h_n = module(packed, h_0)
        assert isinstance(out, PackedSequence)
        out, lengths = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        assert torch.equal(lengths, given.lengths)
        return out, h_n
    options = {"whole": {}, "lengths": {"lengths": given.lengths}, "reset": {"reset": given.reset}}[batch]
    out, h_n = module(laid, h_0, **options)
    return (out if module.batch_first else out.transpose(0, 1)), h_n


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("T", [0, 1, 2, 63, 257])
def test_sequences(layer: str, depth: str, batch: str, T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "packed" in batch and T == 0:
        with pytest.raises((ValueError, RuntimeError)):  # as torch says itself
            pack_padded_sequence(torch.zeros(B, 0, D), torch.zeros(B, dtype=torch.int64), batch_first=True)
        return
    given = case(layer, depth, batch, T)
    monkeypatch.setattr(_recompute, "PIECE", 16 * B * 3 * H)  # several pieces
    for implementation in IMPLEMENTATIONS:
        for dtype, tolerance in TOLERANCE.items():
            if implementation == "definition" and (T > 63 or dtype == torch.bfloat16):
                continue  # it is the expectation, and slow
            for batch_first in (False, True):
                module = build(layer, depth, dtype, batch_first=batch_first, recompute="recomputed" in implementation)
                module.load_state_dict(given.weights)
                x, h_0 = given.x.to(dtype).requires_grad_(), given.h_0.to(dtype).requires_grad_()
                with backend(implementation.split()[0]):
                    out, h_n = call(module, batch, x, h_0, given)
                    upstream = [u.to(dtype) for u in given.upstream]
                    gradients = torch.autograd.grad(
                        (out, h_n), (x, h_0, *module.parameters()), upstream, materialize_grads=True, allow_unused=True
                    )
                assert out.dtype == h_n.dtype == dtype
                for number, (got, wanted) in enumerate(zip((out, h_n, *gradients), given.expected, strict=True)):
                    # By norm: where rounding moves a candidate over the kink of g, a single gradient jumps.
                    error = float((got.detach().double() - wanted).norm() / wanted.norm().clamp(min=1.0))
                    assert error <= tolerance, (implementation, dtype, batch_first, number, error)


def test_the_state_is_that_at_the_length() -> None:
    layer = MinGRU(D, H)
    x = torch.randn(9, 3, D)
    out, h_n = layer(x, lengths=[9, 4, 0])
    assert torch.equal(h_n[0, 0], out[8, 0]) and torch.equal(h_n[0, 1], out[3, 1])
    assert not out[4:, 1].any() and not out[:, 2].any() and not h_n[0, 2].any()


def test_packed_states_come_in_the_callers_order() -> None:
    layer = MinGRU(D, H, num_layers=2, bidirectional=True)
    sequences = [torch.randn(n, D) for n in (3, 9, 5)]
    h_0 = torch.randn(4, 3, H)
    packed = pack_sequence(sequences, enforce_sorted=False)
    out, h_n = layer(packed, h_0)
    assert torch.equal(out.unsorted_indices, packed.unsorted_indices)
    for b, sequence in enumerate(sequences):
        torch.testing.assert_close(h_n[:, b], layer(sequence, h_0[:, b])[1])


def test_a_pair_of_states_like_that_of_lstm() -> None:
    torch.manual_seed(0)
    single = MinLSTM(D, H)
    pair = MinLSTM(D, H, pair=True)
    pair.load_state_dict(single.state_dict())
    x, h_0 = torch.randn(6, 2, D), torch.randn(1, 2, H)
    out, h_n = single(x, h_0)
    for given in ((h_0, torch.full_like(h_0, torch.nan)), None):
        pair_out, (h, c) = pair(x, given)
        if given is not None:
            assert torch.equal(pair_out, out) and torch.equal(h, h_n)
        assert torch.equal(h, c)
    _, (h, c) = pair(pack_sequence([x[:, 0], x[:3, 1]]))
    assert h.shape == c.shape == (1, 2, H)


@pytest.mark.parametrize("activation", ["identity", "g", "tanh"])
def test_a_learned_initial_state(activation: str) -> None:
    layer = MinGRU(D, H, 2, bidirectional=True, learn_h_0=True, activation=activation)
    assert layer.h_0 is not None and layer.h_0.shape == (4, H)
    with torch.no_grad():
        layer.h_0.normal_()
    initial = {
        "identity": layer.h_0,
        "g": torch.where(layer.h_0 >= 0, layer.h_0 + 0.5, layer.h_0.sigmoid()),
        "tanh": layer.h_0.tanh(),
    }[activation]
    x = torch.randn(7, 3, D)
    out, h_n = layer(x)
    expected = layer(x, initial[:, None].repeat(1, 3, 1))
    torch.testing.assert_close((out, h_n), expected)
    (gradient,) = torch.autograd.grad(out.sum(), layer.h_0)
    assert (gradient != 0).all()
    assert torch.equal(layer(x, torch.zeros(4, 3, H))[0], layer(x, torch.zeros(4, 3, H))[0])


def test_resets_separate_documents_in_a_bidirectional_layer() -> None:
    layer = MinGRU(D, H, 2, bidirectional=True, batch_first=True)
    x, reset = torch.randn(1, 10, D), torch.zeros(1, 10, dtype=torch.bool)
    reset[0, 4] = True
    out, _ = layer(x, reset=reset)
    apart = torch.cat([layer(x[:, :4])[0], layer(x[:, 4:])[0]], dim=1)
    torch.testing.assert_close(out, apart)


def test_recomputing_equals_not() -> None:
    """Also to second order, and under autocast."""
    plain, recomputed = MinGRU(D, H, dtype=torch.float64), MinGRU(D, H, dtype=torch.float64, recompute=True)
    recomputed.load_state_dict(plain.state_dict())
    x, h_0 = torch.randn(6, 2, D, dtype=torch.float64), torch.randn(1, 2, H, dtype=torch.float64)
    results = []
    for layer in (plain, recomputed):
        leaves = (x.clone().requires_grad_(), h_0.clone().requires_grad_(), *layer.parameters())
        out, h_n = layer(*leaves[:2])
        gradients = torch.autograd.grad(out.sin().sum() + h_n.cos().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in gradients), leaves)
        results.append([*gradients, *second])
    torch.testing.assert_close(results[0], results[1])
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = recomputed.float()(x.float().requires_grad_())
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, plain.float()(x.float())[0])
    out.sum().backward()
    assert recomputed.weight_ih_l0.grad is not None and recomputed.weight_ih_l0.grad.dtype == torch.float32


def test_lengths_in_any_memory() -> None:
    layer, x = MinGRU(D, H), torch.randn(9, 3, D, requires_grad=True)
    expected = layer(x, lengths=torch.tensor([9, 4, 0]))
    table = torch.tensor([[9, 10**6], [4, -(10**6)], [0, 10**6]])
    torch.testing.assert_close(layer(x, lengths=table[:, 0]), expected)
    torch.testing.assert_close(layer(x, lengths=table[:, 0].int()), expected)
    torch.testing.assert_close(layer(x, lengths=torch.tensor([4]).expand(3)), layer(x, lengths=[4, 4, 4]))
    lengths = torch.tensor([9, 4, 0])
    out, _ = layer(x, lengths=lengths)
    lengths += 1000  # the caller's own
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x), torch.autograd.grad(expected[0].sum(), x))


def test_a_reset_in_the_padding_means_nothing() -> None:
    layer = MinGRU(D, H, bidirectional=True, batch_first=True)
    x, h_0 = torch.randn(1, 5, D), torch.randn(2, 1, H)
    reset = torch.tensor([[False, True, False, True, True]])
    out, h_n = layer(x, h_0, lengths=[3], reset=reset)
    expected, expected_h_n = layer(x[:, :3], h_0, reset=reset[:, :3])
    torch.testing.assert_close((out[:, :3], h_n), (expected, expected_h_n))


@pytest.mark.parametrize(
    ("rows", "batch_sizes", "order", "message"),
    [
        (4, [3, 2], None, "has 4 rows of data; its batch_sizes expect 5"),
        (3, [1, 2], None, "rise or are not positive"),
        (3, [3, 0], None, "rise or are not positive"),
        (3, [2, 1], [0], r"an order of the PackedSequence has shape \(1,\); expected \(B,\) = \(2,\)"),
    ],
)
def test_packed_sequences_that_contradict_themselves(
    rows: int, batch_sizes: list[int], order: list[int] | None, message: str
) -> None:
    orders = (None, None) if order is None else (torch.tensor(order), torch.tensor(order))
    packed = PackedSequence(torch.randn(rows, D), torch.tensor(batch_sizes), *orders)
    with pytest.raises(ValueError, match=message):
        MinGRU(D, H)(packed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_agreement_with_float32_by_length(dtype: torch.dtype, recompute: bool) -> None:
    """Weights and input rounded to the type, and autocast to it: the error is that of rounding, whatever the length."""
    torch.manual_seed(0)
    layer = MinGRU(16, 16, batch_first=True, recompute=recompute)
    for T in (1, 64, 4096, 16_384):
        x = torch.randn(1, T, 16)
        expected, _ = layer(x)
        bound = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-6}[dtype]
        rounded = MinGRU(16, 16, batch_first=True, dtype=dtype, recompute=recompute)
        rounded.load_state_dict(layer.state_dict())
        assert (rounded(x.to(dtype))[0].float() - expected).abs().max() < bound
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out, h_n = layer(x)
        assert out.dtype == dtype and h_n.dtype == torch.float32
        assert (out.float() - expected).abs().max() < bound
        double = MinGRU(16, 16, dtype=torch.float64, recompute=recompute)
        with torch.autocast("cpu", torch.bfloat16):
            assert double(x[0].double())[0].dtype == torch.float64
