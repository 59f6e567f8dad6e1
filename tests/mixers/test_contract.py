"""What every mixer of the registry promises: one call serves whole sequences, chunks and single steps, resets part
sequences, nothing sees ahead, and every fast path is its definition.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.utils.rnn import pack_sequence

from minrnn import RNN
from minrnn.mixers import Mixer, build, names
from minrnn.models import Block
from minrnn.recurrence import backend

D = 8
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mingru", {"expansion": 1.4, "activation": "identity"}),
    ("mingru", {"expansion": 0.6, "activation": "g"}),
    ("minlstm", {"expansion": 1.4, "activation": "tanh", "forget_bias": 1.0}),
    ("minlstm", {"expansion": 1.0, "normalize": False, "bias": False}),
    ("mingru", {"activation": "g", "logspace": True, "gate_mlp": 1.5}),
    ("qrnn", {"pooling": "f", "filter": 1, "expansion": 1.4}),
    ("qrnn", {"pooling": "fo"}),
    ("qrnn", {"pooling": "ifo", "filter": 3, "bias": False}),
    ("sru", {"version": 1, "activation": "tanh", "expansion": 1.4}),
    ("sru", {"version": 2, "highway_bias": -1.0}),
    ("srupp", {"heads": 2, "projection": 6, "highway_bias": -1.0}),
    ("gru", {"expansion": 1.4}),
    ("lstm", {}),
    ("gilr", {}),
    ("gilr_lstm", {"expansion": 1.4}),
    ("rglru", {"heads": 2}),
    ("hgrn", {"complex": True}),
    ("hgrn", {"complex": False, "expansion": 1.4}),
    ("rwkv4", {}),
    ("rwkv4", {"channel_mix": False}),
    ("signed", {"expansion": 1.4}),
    ("s4d", {"state": 6}),
    ("s4d", {"state": 2, "spectrum": "inv", "dt_max": 0.5}),
    ("mamba", {}),
    ("mamba", {"expansion": 1.4, "state": 3, "conv": 1, "rank": 2}),
    ("slstm", {"heads": 2}),
    ("slstm", {"heads": 1, "conv": 1}),
    ("mlstm", {"heads": 2, "expansion": 1.0}),
    ("mlstm", {"heads": 2, "chunk": 5, "conv": 2}),
    ("deltanet", {"heads": 2}),
    ("deltanet", {"heads": 2, "negative": False, "chunk": 5, "conv": 1}),
    ("nonlinear", {}),
    ("attention", {"heads": 2}),
    ("attention", {"heads": 2, "positions": "alibi", "window": 5, "bias": True}),
]
every_mixer = pytest.mark.parametrize(
    ("name", "chosen"),
    CASES,
    ids=[f"{name}-{','.join(f'{k}={v}' for k, v in chosen.items())}" for name, chosen in CASES],
)


def make(name: str, chosen: dict[str, Any]) -> Mixer:
    """A mixer all of whose weights are away from zero, where zeros at the start would hide what they multiply."""
    torch.manual_seed(0)
    mixer = build(name, width=D, layer=1, num_layers=3, **chosen).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return mixer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def state_after(mixer: Mixer, B: int, steps: int = 3) -> Any:
    """A state as a sequence leaves it, for other steps to go on from."""
    with torch.no_grad():
        return mixer(random(B, steps, D))[1]


def same_state(mixer: Mixer, actual: Any, expected: Any) -> None:
    """The same fields, and the same outputs from here on."""
    if mixer.constant_state:
        for a, e in zip(actual, expected, strict=True):
            close(a, e)
    B = actual[0].shape[0]
    if B:
        x = random(B, 4, D)
        close(mixer(x, actual)[0], mixer(x, expected)[0])


def gradients(mixer: Mixer, x: Tensor, run: Callable[[Tensor], tuple[Tensor, Any]], upstream: Tensor) -> list[Tensor]:
    """Of x and all parameters, from the outputs and every tensor of the last state."""
    y, state = run(x)
    weights = torch.Generator().manual_seed(1)
    total = (y * upstream).sum()
    for tensor in state:
        if tensor.is_floating_point() and mixer.constant_state:
            total = total + (tensor * torch.randn(tensor.shape, generator=weights, dtype=tensor.dtype)).sum()
    return list(torch.autograd.grad(total, [x, *mixer.parameters()], materialize_grads=True))


def test_every_mixer_of_the_registry_is_tested() -> None:
    assert {name for name, _ in CASES} == set(names())


@every_mixer
@pytest.mark.parametrize(("B", "T"), [(3, 7), (1, 1), (2, 0), (0, 4), (2, 130)])
def test_equals_the_definition_with_all_gradients(name: str, chosen: dict[str, Any], B: int, T: int) -> None:
    mixer = make(name, chosen)
    x, state = random(B, T, D).requires_grad_(), state_after(mixer, B)
    reset, upstream = torch.rand(B, T) < 0.1, random(B, T, D)

    def run(x: Tensor) -> tuple[Tensor, Any]:
        return mixer(x, state, reset=reset)

    fast, last = run(x)
    of_fast = gradients(mixer, x, run, upstream)
    with backend("definition"):
        y, expected = run(x)
        of_definition = gradients(mixer, x, run, upstream)
    close(fast, y)
    same_state(mixer, last, expected)
    for actual, right in zip(of_fast, of_definition, strict=True):
        close(actual, right, 1e-8)


@every_mixer
@pytest.mark.parametrize("lengths", [(4, 0, 1, 12), (1, 1, 1, 14), (16, 1), (7, 10)])
def test_chunks_are_the_whole_with_all_gradients(name: str, chosen: dict[str, Any], lengths: tuple[int, ...]) -> None:
    mixer, B, T = make(name, chosen), 2, sum(lengths)
    x, state = random(B, T, D).requires_grad_(), state_after(mixer, B)
    reset, upstream = torch.rand(B, T) < 0.1, random(B, T, D)

    def whole(x: Tensor) -> tuple[Tensor, Any]:
        return mixer(x, state, reset=reset)

    def chunks(x: Tensor) -> tuple[Tensor, Any]:
        pieces, carried = [], state
        for chunk, cut in zip(x.split(lengths, 1), reset.split(lengths, 1), strict=True):
            y, carried = mixer(chunk, carried, reset=cut)
            pieces.append(y)
        return torch.cat(pieces, 1), carried

    close(chunks(x)[0], whole(x)[0])
    same_state(mixer, chunks(x)[1], whole(x)[1])
    for actual, right in zip(gradients(mixer, x, chunks, upstream), gradients(mixer, x, whole, upstream), strict=True):
        close(actual, right, 1e-8)


@every_mixer
@pytest.mark.parametrize("inference", [False, True])
def test_single_steps_are_the_whole(name: str, chosen: dict[str, Any], inference: bool) -> None:
    mixer = make(name, chosen)
    x, reset = random(3, 9, D), torch.rand(3, 9) < 0.1
    whole, last = mixer(x, reset=reset)
    with torch.inference_mode(inference):
        state = mixer.initial_state(3)
        steps = []
        for t in range(9):
            y, state = mixer(x[:, t : t + 1], state, reset=reset[:, t : t + 1])
            steps.append(y)
        close(torch.cat(steps, 1), whole)
        same_state(mixer, state, last)


@every_mixer
def test_no_state_is_the_initial_state(name: str, chosen: dict[str, Any]) -> None:
    mixer, x = make(name, chosen), random(2, 5, D)
    close(mixer(x)[0], mixer(x, mixer.initial_state(2))[0])


@every_mixer
def test_a_reset_begins_a_sequence_of_its_own(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x, state = random(2, 80, D), state_after(mixer, 2)
    reset = torch.zeros(2, 80, dtype=torch.bool)
    reset[0, 3] = reset[1, 0] = reset[1, 70] = True
    y, last = mixer(x, state, reset=reset)
    rows = torch.tensor([0])
    close(y[:1, :3], mixer(x[:1, :3], mixer.select_rows(state, rows))[0])
    for b, start, stop in ((0, 3, 80), (1, 0, 70), (1, 70, 80)):
        alone, alone_last = mixer(x[b : b + 1, start:stop])
        close(y[b : b + 1, start:stop], alone)
        if stop == 80:
            same_state(mixer, mixer.select_rows(last, torch.tensor([b])), alone_last)


@every_mixer
def test_rows_of_a_batch_are_apart(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x = random(3, 6, D)
    y, state = mixer(x)
    parts = [mixer(x[:1]), mixer(x[1:])]
    close(torch.cat([part for part, _ in parts]), y)
    same_state(mixer, mixer.concatenate_rows([part for _, part in parts]), state)


@every_mixer
def test_no_step_sees_a_later_one(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    x = random(2, 90, D)
    for t in (5, 67):
        changed = torch.cat([x[:, :t], random(2, 90 - t, D)], dim=1)
        close(mixer(changed)[0][:, :t], mixer(x)[0][:, :t], 1e-12)
        assert not torch.allclose(mixer(changed)[0][:, t:], mixer(x)[0][:, t:])


BY_A_KERNEL = ("mingru", "minlstm", "qrnn", "sru", "gilr", "rglru", "hgrn", "rwkv4", "signed", "nonlinear", "s4d")
"""And mamba and slstm, whose channels fade at rates of their own, so that not every product stays normal."""


@pytest.mark.parametrize("name", BY_A_KERNEL)
def test_gradients_that_vanish_leave_no_subnormal_numbers(name: str) -> None:
    """With which every later matrix product would take many times as long."""
    torch.manual_seed(0)
    mixer = build(name, width=D, layer=0, num_layers=1)
    x = torch.randn(2, 3000, D, requires_grad=True)
    y, _ = mixer(x)
    (1e-20 * y[:, -1].sum()).backward()
    assert x.grad is not None
    sizes = x.grad.abs()
    assert sizes[:, -1].max() > 0
    assert not ((sizes > 0) & (sizes < torch.finfo().tiny)).any()


@every_mixer
def test_the_state_has_a_size_of_its_own(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    shapes = [[tensor.shape for tensor in state_after(mixer, 2, steps)] for steps in (1, 40)]
    assert (shapes[0] == shapes[1]) == mixer.constant_state
    if mixer.constant_state:
        assert shapes[0] == [tensor.shape for tensor in mixer.initial_state(2)]


@every_mixer
def test_a_state_does_not_keep_the_sequence_alive(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    if mixer.constant_state:
        short, long = (sum(t.untyped_storage().nbytes() for t in state_after(mixer, 2, T)) for T in (5, 500))
        assert long <= 2 * short


@every_mixer
def test_bfloat16(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen).bfloat16()
    x = torch.randn(2, 33, D).bfloat16()
    y, state = mixer(x)
    again, _ = mixer(x, state)
    assert y.dtype == again.dtype == torch.bfloat16
    exact = mixer.double()(x.double())[0]
    assert (y.double() - exact).abs().max() <= 0.06 * exact.abs().max()


@every_mixer
def test_autocast(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen).float()
    x = torch.randn(2, 33, D)
    expected = mixer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer(x)
        y.sum().backward()
        mixer(x, state)
    assert (y.float() - expected).abs().max() <= 0.06 * expected.abs().max()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in mixer.parameters())


@every_mixer
def test_compiles_without_graph_breaks(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    x, upstream = random(2, 7, D).requires_grad_(), random(2, 7, D)
    close(compiled(x)[0], mixer(x)[0])
    for actual, right in zip(
        gradients(mixer, x, compiled, upstream), gradients(mixer, x, mixer, upstream), strict=True
    ):
        close(actual, right, 1e-8)


@every_mixer
def test_weights_save_and_load(name: str, chosen: dict[str, Any]) -> None:
    mixer, other = make(name, chosen), build(name, width=D, layer=1, num_layers=3, **chosen).double()
    other.load_state_dict(mixer.state_dict())
    x = random(2, 7, D)
    assert torch.equal(other(x)[0], mixer(x)[0])


@every_mixer
def test_its_output_can_be_scaled(name: str, chosen: dict[str, Any]) -> None:
    mixer, x = build(name, width=D, layer=1, num_layers=3, **chosen).double(), random(2, 7, D)
    before = mixer(x)[0]
    mixer.scale_output(0.0)
    after = mixer(x)[0]
    assert not torch.equal(after, before)
    close(after, after[:1, :1].expand_as(after))  # no more than a bias


@every_mixer
def test_a_fresh_mixer_keeps_the_scale(name: str, chosen: dict[str, Any]) -> None:
    """In float32 at a usual width: finite, and neither silent nor loud."""
    torch.manual_seed(0)
    mixer = build(name, width=64, **chosen)
    y, _ = mixer(torch.randn(4, 200, 64))
    assert 1e-3 < float(y.detach().std()) < 10


@every_mixer
def test_what_does_not_fit_is_named(name: str, chosen: dict[str, Any]) -> None:
    mixer = make(name, chosen)
    with pytest.raises(ValueError, match=r"x has shape \(2, 7, 9\); expected \(B, T, D\) with D = width = 8"):
        mixer(random(2, 7, 9))
    with pytest.raises(ValueError, match=r"reset has shape \(2, 8\); expected \(B, T\) = \(2, 7\)"):
        mixer(random(2, 7, D), reset=torch.zeros(2, 8, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"reset has dtype torch.int64; expected torch.bool"):
        mixer(random(2, 7, D), reset=torch.zeros(2, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"state\.\w+ has shape .*; expected "):
        mixer(random(3, 7, D), state_after(mixer, 2))
    with pytest.raises(TypeError, match=r"state is a tuple; expected a \w+State"):
        mixer(random(2, 7, D), (1, 2))


@every_mixer
def test_fields_of_the_initial_state_can_be_written_to_apart(name: str, chosen: dict[str, Any]) -> None:
    fields = [field for field in make(name, chosen).initial_state(2) if field.numel()]
    assert len({field.data_ptr() for field in fields}) == len(fields)


@pytest.mark.parametrize("name", ["mingru", "rglru", "s4d", "nonlinear"])
def test_tangents_and_many_upstream_gradients(name: str) -> None:
    """A backward pass is linear in the upstream gradients: its tangent is another one, and so are many at once."""
    torch.manual_seed(0)
    block = Block(build(name, width=D)).double()
    x, v = random(2, 5, D).requires_grad_(), random(2, 5, D)
    y = block(x)[0]
    u, du = random(2, 5, D), random(2, 5, D)
    expected = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in (u, du)]
    (mapped,) = torch.autograd.grad(y, x, torch.stack([u, du]), is_grads_batched=True, retain_graph=True)
    close(mapped, torch.stack(expected))
    with forward_ad.dual_level():
        for create_graph in (False, True):
            dual = forward_ad.make_dual(u, du)
            (dx,) = torch.autograd.grad(y, x, dual, retain_graph=True, create_graph=create_graph)
            close(forward_ad.unpack_dual(dx).tangent, expected[1])
        y_tangent = forward_ad.unpack_dual(block(forward_ad.make_dual(x.detach(), v))[0]).tangent
    close((y_tangent * u).sum(), (expected[0] * v).sum())


def test_parameters_that_lie_another_way_are_read_as_they_are() -> None:
    mixer = make("nonlinear", {})
    x = random(2, 5, D)
    turned = mixer.recurrent.detach().t().contiguous().t()
    assert not turned.is_contiguous()
    close(functional_call(mixer, {"recurrent": turned}, (x,))[0], mixer(x)[0])


def test_a_width_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="width is 0; expected an int of 1 or more"):
        build("mingru", width=0)


@every_mixer
def test_tensors_are_made_where_the_input_is(name: str, chosen: dict[str, Any]) -> None:
    """Whatever torch's default device is."""
    block = Block(make(name, chosen), dropout=0.1).double()
    x = random(2, 300, D)
    layer, packed = RNN(name, D, D, **chosen), pack_sequence([torch.randn(3, D), torch.randn(2, D)])
    with torch.device("meta"):
        block(x)[0].sum().backward()
        assert layer(packed)[0].data.is_cpu
        with backend("definition"):
            assert block(x[:, :5])[0].is_cpu
