"""Derivatives of layers: of every order, by every mode, through compile, export, checkpoint and parametrizations."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from minrnn import MinGRU, MinLSTM

# torch.func's own first import of its decompositions warns.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

D, H, B, T = 2, 3, 2, 4

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mingru": (MinGRU, {"num_layers": 2}),
    "mingru, both directions, expanded": (MinGRU, {"bidirectional": True, "expansion": 1.4, "activation": "tanh"}),
    "minlstm": (MinLSTM, {"num_layers": 2, "bidirectional": True}),
    "minlstm, not normalised": (MinLSTM, {"normalize": False, "activation": "tanh"}),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(name: str, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    kind, options = LAYERS[name]
    return kind(D, H, batch_first=True, dtype=dtype, **options | more)


def inputs(layer: Any, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = torch.randn(B, T, D, dtype=dtype, requires_grad=True)
    states = layer.num_layers * layer.directions
    return x, torch.randn(states, B, layer.state_size, dtype=dtype, requires_grad=True)


@each_layer
@pytest.mark.parametrize("how", ["whole", "lengths", "reset", "packed", "recomputed"])
def test_first_and_second_order(name: str, how: str) -> None:
    """With respect to input, h_0, weights and biases."""
    layer = build(name, recompute=how == "recomputed")
    x, h_0 = inputs(layer)
    names = [key for key, _ in layer.named_parameters()]
    weights = tuple(w.detach().requires_grad_() for w in layer.parameters())
    options: dict[str, Any] = {
        "lengths": {"lengths": torch.tensor([2, 4])},
        "reset": {"reset": torch.tensor([[True, False, True, False], [False, False, False, True]])},
    }.get(how, {})

    def f(x: Tensor, h_0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        given: Any = pack_padded_sequence(x, torch.tensor([4, 2]), True) if how == "packed" else x
        out, h_n = functional_call(layer, dict(zip(names, weights, strict=True)), (given, h_0), options)
        return (out.data if how == "packed" else out), h_n

    assert torch.autograd.gradcheck(f, (x, h_0, *weights))
    assert torch.autograd.gradgradcheck(f, (x, h_0, *weights))


def loss_of(layer: Any) -> Callable[..., Tensor]:
    def loss(weights: dict[str, Tensor], x: Tensor, h_0: Tensor) -> Tensor:
        out, h_n = functional_call(layer, weights, (x, h_0))
        return out.sin().sum() + h_n.cos().sum()  # type: ignore[no-any-return]

    return loss


@each_layer
def test_torch_func(name: str) -> None:
    layer = build(name)
    weights, (x, h_0) = dict(layer.named_parameters()), inputs(layer)
    loss = loss_of(layer)
    gradients = torch.func.grad(loss)(weights, x, h_0)
    expected = torch.autograd.grad(loss(weights, x, h_0), list(weights.values()))
    torch.testing.assert_close(list(gradients.values()), list(expected))

    def alone(weights: dict[str, Tensor], x: Tensor, h_0: Tensor) -> Tensor:
        return loss(weights, x[None], h_0[:, None])

    each = torch.func.vmap(torch.func.grad(alone), (None, 0, 1))(weights, x, h_0)
    for b in range(B):
        expected = torch.autograd.grad(alone(weights, x[b], h_0[:, b]), list(weights.values()))
        torch.testing.assert_close([g[b] for g in each.values()], list(expected))

    direction = torch.randn_like(x)
    _, tangent = torch.func.jvp(lambda x: loss(weights, x, h_0), (x,), (direction,))
    (gradient,) = torch.autograd.grad(loss(weights, x, h_0), x)
    torch.testing.assert_close(tangent, (gradient * direction).sum())


def test_vmap_over_batches_with_lengths() -> None:
    layer = build("mingru")
    x, lengths = torch.randn(5, B, T, D, dtype=torch.float64), torch.tensor([2, 4])
    mapped = torch.func.vmap(lambda x: layer(x, lengths=lengths)[0])(x)
    torch.testing.assert_close(mapped, torch.stack([layer(each, lengths=lengths)[0] for each in x]))


@each_layer
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(name: str, reentrant: bool) -> None:
    layer = build(name)
    x, h_0 = inputs(layer)
    out, h_n = checkpoint(layer, x, h_0, use_reentrant=reentrant)
    given = torch.autograd.grad(out.sin().sum() + h_n.sum(), x) if not reentrant else None
    if given is None:  # the reentrant form knows backward() alone
        (out.sin().sum() + h_n.sum()).backward()
        given = (x.grad,)
    out, h_n = layer(x, h_0)
    torch.testing.assert_close(given, torch.autograd.grad(out.sin().sum() + h_n.sum(), x))


def test_compiled_for_lengths_of_every_size_in_few_graphs() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    layer = build("minlstm", torch.float32)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for size in (7, 9, 12, 33, 64, 100):
        x = torch.randn(B, size, D, requires_grad=True)
        out, h_n = compiled(x)
        expected, expected_h_n = layer(x)
        torch.testing.assert_close((out, h_n), (expected, expected_h_n))
        given = torch.autograd.grad(out.sum() + h_n.sum(), x)
        torch.testing.assert_close(given, torch.autograd.grad(expected.sum() + expected_h_n.sum(), x))
    assert counter.frame_count <= 4


def test_compiled_with_lengths_and_resets() -> None:
    layer = build("mingru", torch.float32)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x, reset = torch.randn(B, T, D), torch.rand(B, T) < 0.5
    for options in ({"lengths": torch.tensor([4, 1])}, {"reset": reset}):
        torch.testing.assert_close(compiled(x, **options), layer(x, **options))


def test_forward_mode_of_a_compiled_layer_is_right_or_raises() -> None:
    layer = build("mingru")
    x, direction = torch.randn(2, B, T, D, dtype=torch.float64).unbind()
    expected = torch.func.jvp(lambda x: layer(x)[0], (x,), (direction,))[1]
    compiled = torch.compile(lambda x: layer(x)[0], backend="aot_eager")
    try:
        given = torch.func.jvp(compiled, (x,), (direction,))[1]
    except RuntimeError:
        return
    torch.testing.assert_close(given, expected)


def test_export() -> None:
    layer = build("minlstm", torch.float32)
    x = torch.randn(B, 9, D)
    time = torch.export.Dim("time", min=2, max=1000)
    program = torch.export.export(layer, (x,), dynamic_shapes={"input": {1: time}})
    longer = torch.randn(B, 31, D)
    torch.testing.assert_close(program.module()(longer), layer(longer))


def test_parametrizations_reach_the_computation() -> None:
    class Twice(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    layer = build("mingru")
    x, h_0 = inputs(layer)
    doubled = copy.deepcopy(layer)
    with torch.no_grad():
        doubled.weight_ih_l1 *= 2
    nn.utils.parametrize.register_parametrization(layer, "weight_ih_l1", Twice())
    torch.testing.assert_close(layer(x, h_0), doubled(x, h_0))
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_ih_l1.original.grad is not None


@each_layer
def test_pickle_copy_and_moves(name: str) -> None:
    layer = build(name)
    x, h_0 = inputs(layer)
    expected = layer(x, h_0)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), layer.to("meta").to_empty(device="cpu")):
        if other is layer:
            continue
        torch.testing.assert_close(other(x, h_0), expected)
    layer.reset_parameters()
    assert layer(x)[0].isfinite().all()


@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")
def test_distributed_data_parallel(tmp_path: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = build("mingru")
        x, h_0 = inputs(layer)
        parallel = nn.parallel.DistributedDataParallel(layer)
        out, h_n = parallel(x, h_0)
        (out.sum() + h_n.sum()).backward()
        assert all(p.grad is not None for p in layer.parameters())
        del parallel
    finally:
        torch.distributed.destroy_process_group()
