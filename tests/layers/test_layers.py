"""MinGRU and MinLSTM keep the calling convention of nn.GRU, and compute what the paper's equations say."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minrnn import MinGRU, MinLSTM

Layer = MinGRU | MinLSTM
EVERY: list[tuple[type[Layer], dict[str, Any]]] = [
    (MinGRU, {}),
    (MinGRU, {"activation": "g", "bias": False}),
    (MinLSTM, {"activation": "tanh"}),
    (MinLSTM, {"normalize": False, "forget_bias": 1.0}),
]
every_layer = pytest.mark.parametrize(
    ("kind", "options"), EVERY, ids=lambda value: getattr(value, "__name__", str(value))
)
shapes = pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (3, False), (1, True), (2, True)])


def make(kind: type[Layer], D: int = 5, H: int = 7, **options: Any) -> Layer:
    torch.manual_seed(0)
    return kind(D, H, **{"dtype": torch.float64} | options)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def by_hand(layer: Layer, options: dict[str, Any], x: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    """The equations, one step at a time, for x (B, T, D)."""
    g = {
        "identity": lambda c: c,
        "g": lambda c: torch.where(c >= 0, c + 0.5, c.sigmoid()),
        "tanh": torch.tanh,
    }[options.get("activation", "identity")]
    directions, last = 2 if layer.bidirectional else 1, []
    for index in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            position = index * directions + direction
            weight, *bias = layer.all_weights[position]
            h, states = h_0[position], {}
            steps = range(x.shape[1])
            for t in reversed(steps) if direction else steps:
                *gates, candidate = torch.nn.functional.linear(x[:, t], weight, *bias).split(layer.hidden_size, dim=-1)
                if isinstance(layer, MinGRU):
                    z = gates[0].sigmoid()
                    h = (1 - z) * h + z * g(candidate)
                else:
                    f, i = gates[0].sigmoid(), gates[1].sigmoid()
                    total = f + i if options.get("normalize", True) else 1
                    h = f / total * h + i / total * g(candidate)
                states[t] = h
            outputs.append(torch.stack([states[t] for t in steps], dim=1))
            last.append(h)
        x = torch.cat(outputs, dim=-1)
    return x, torch.stack(last)


@every_layer
@shapes
@pytest.mark.parametrize(("B", "T"), [(3, 9), (1, 1), (4, 70)])
def test_the_equations_with_all_gradients(
    kind: type[Layer], options: dict[str, Any], layers: int, bidirectional: bool, B: int, T: int
) -> None:
    layer = make(kind, num_layers=layers, bidirectional=bidirectional, batch_first=True, **options)
    states = layers * (1 + bidirectional)
    x, h_0 = random(B, T, 5).requires_grad_(), torch.rand(states, B, 7, dtype=torch.float64).requires_grad_()
    upstream = random(B, T, 7 * (1 + bidirectional)), random(states, B, 7)
    inputs = [x, h_0, *layer.parameters()]
    actual, expected = layer(x, h_0), by_hand(layer, options, x, h_0)
    gradients, expected_gradients = (torch.autograd.grad(outputs, inputs, upstream) for outputs in (actual, expected))
    for a, e in zip((*actual, *gradients), (*expected, *expected_gradients), strict=True):
        close(a, e)


@every_layer
@shapes
@pytest.mark.parametrize("batch_first", [False, True])
def test_shapes_are_those_of_gru(
    kind: type[Layer], options: dict[str, Any], layers: int, bidirectional: bool, batch_first: bool
) -> None:
    convention = (layers, True, batch_first, 0.0, bidirectional)
    layer, gru = kind(5, 7, *convention), nn.GRU(5, 7, *convention)
    for shape in ((3, 9, 5), (9, 5), (1, 1, 5)):
        x = torch.randn(shape)
        (out, h_n), (expected, expected_h_n) = layer(x), gru(x)
        assert (out.shape, h_n.shape, out.dtype, h_n.dtype) == (
            expected.shape,
            expected_h_n.shape,
            expected.dtype,
            expected_h_n.dtype,
        )
        assert out.is_contiguous()
        again, h_again = layer(x, torch.zeros_like(expected_h_n))
        assert torch.equal(again, out)
        assert torch.equal(h_again, h_n)


@every_layer
@shapes
def test_layouts_agree(kind: type[Layer], options: dict[str, Any], layers: int, bidirectional: bool) -> None:
    arguments = {"num_layers": layers, "bidirectional": bidirectional} | options
    time_major, batch_major = make(kind, **arguments), make(kind, batch_first=True, **arguments)
    x, h_0 = random(4, 9, 5), random(layers * (1 + bidirectional), 4, 7)
    out, h_n = batch_major(x, h_0)
    transposed, transposed_h_n = time_major(x.transpose(0, 1).contiguous(), h_0)
    close(transposed.transpose(0, 1), out)
    close(transposed_h_n, h_n)
    for layer in (time_major, batch_major):
        alone, alone_h_n = layer(x[2], h_0[:, 2])
        close(alone, out[2])
        close(alone_h_n, h_n[:, 2])


@every_layer
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.sampled_from([0, 1, 2, 5, 17]), min_size=1, max_size=4), layers=st.integers(1, 3))
def test_chunks_are_the_whole(kind: type[Layer], options: dict[str, Any], lengths: list[int], layers: int) -> None:
    layer = make(kind, num_layers=layers, **options)
    x, h = random(sum(lengths), 3, 5), random(layers, 3, 7)
    out, h_n = layer(x, h)
    pieces = []
    for chunk in x.split(lengths):
        piece, h = layer(chunk, h)
        pieces.append(piece)
    close(torch.cat(pieces), out)
    close(h, h_n)


def test_no_sequences_have_no_lengths() -> None:
    out, h_n = make(MinGRU)(random(5, 0, 5), lengths=[])
    assert out.shape == (5, 0, 7) and h_n.shape == (1, 0, 7)


def test_bfloat16_steps_continue_in_float32() -> None:
    """h rises by 3e-4 a step, which a state rounded to bfloat16 would soon no longer notice."""
    layer = make(MinGRU, batch_first=True, state_dtype=torch.float32).bfloat16()
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.bias_ih_l0.copy_(torch.tensor([-8.0] * 7 + [1.0] * 7))
    x = torch.randn(2, 1000, 5, dtype=torch.bfloat16)
    out, h_n = layer(x)
    assert (out.dtype, h_n.dtype) == (torch.bfloat16, torch.float32)
    h = None
    for step in x.split(1, dim=1):
        _, h = layer(step, h)
    torch.testing.assert_close(h, h_n)
    assert h_n.mean().item() == pytest.approx(1 - (1 - torch.tensor(-8.0).sigmoid().item()) ** 1000, rel=0.01)


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_steps_leave_the_state(kind: type[Layer], options: dict[str, Any], bidirectional: bool) -> None:
    layer = make(kind, num_layers=2, bidirectional=bidirectional, **options)
    h_0 = random(2 * (1 + bidirectional), 3, 7)
    out, h_n = layer(torch.empty(0, 3, 5, dtype=torch.float64), h_0)
    assert out.shape == (0, 3, 7 * (1 + bidirectional))
    assert torch.equal(h_n, h_0)


@every_layer
def test_the_backward_direction_reads_from_the_end(kind: type[Layer], options: dict[str, Any]) -> None:
    layer, x = make(kind, bidirectional=True, **options), random(9, 3, 5)
    one = make(kind, **options)
    backward = layer.state_dict().items()
    one.load_state_dict({name.removesuffix("_reverse"): w for name, w in backward if name.endswith("_reverse")})
    flipped, last = one(x.flip(0))
    out, h_n = layer(x)
    close(out[..., 7:], flipped.flip(0))
    close(h_n[1], last[0])
    close(h_n[1], out[0, :, 7:])
    assert not torch.equal(layer.weight_ih_l0, layer.weight_ih_l0_reverse)


def test_bidirectional_time_major_stays_in_memory_order() -> None:
    layer = MinGRU(5, 7, num_layers=2, bidirectional=True)
    out, _ = layer(torch.randn(9, 3, 5))
    assert out.view(-1, 14).shape == (27, 14)


@every_layer
def test_weights_save_and_load_and_copy(kind: type[Layer], options: dict[str, Any]) -> None:
    layer = make(kind, num_layers=2, bidirectional=True, **options)
    other = kind(5, 7, num_layers=2, bidirectional=True, dtype=torch.float64, **options)
    other.load_state_dict(layer.state_dict())
    x = random(9, 3, 5)
    assert torch.equal(other(x)[0], layer(x)[0])
    assert torch.equal(copy.deepcopy(layer)(x)[0], layer(x)[0])


@every_layer
def test_autocast(kind: type[Layer], options: dict[str, Any]) -> None:
    layer = make(kind, num_layers=2, dtype=torch.float32, **options)
    x = torch.randn(60, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out, h_n = layer(x)
    expected, expected_h_n = layer(x)
    assert (out.dtype, h_n.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(out.float(), expected, rtol=0.03, atol=0.03)
    torch.testing.assert_close(h_n, expected_h_n, rtol=0.03, atol=0.03)


@every_layer
def test_gradcheck(kind: type[Layer], options: dict[str, Any]) -> None:
    layer = make(kind, D=2, H=3, num_layers=2, bidirectional=True, **options)
    x, h_0 = random(4, 2, 2).requires_grad_(), torch.rand(4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, h_0: layer(x, h_0), (x, h_0))


@every_layer
def test_compiles_without_graph_breaks(kind: type[Layer], options: dict[str, Any]) -> None:
    layer = make(kind, num_layers=2, bidirectional=True, **options)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x, h_0 = random(9, 3, 5).requires_grad_(), random(4, 3, 7)
    for a, e in zip(compiled(x, h_0), layer(x, h_0), strict=True):
        close(a, e)
        close(*(torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in (a, e)))


@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("layer", [MinGRU(3, 4), MinLSTM(3, 4), MinGRU(3, 4, bidirectional=True)], ids=str)
def test_output_and_state_are_two_memories(layer: nn.Module, T: int) -> None:
    with torch.no_grad():
        out, h_n = layer(torch.randn(T, 2, 3))
        before = out.clone()
        h_n.zero_()
    assert torch.equal(out, before)


def test_two_functions_do_not_print_alike() -> None:
    layer = MinLSTM(5, 8, normalize=False, forget_bias=2.0)
    assert repr(layer) == "MinLSTM(5, 8, normalize=False, forget_bias=2)"
    assert repr(MinLSTM(5, 8)) == "MinLSTM(5, 8)"
