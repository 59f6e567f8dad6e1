"""What holds for every recurrence, whatever the shapes and however extreme the logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minrnn.recurrence import backend, mingru, minlstm, walk
from minrnn.recurrence._definitions import AFFINE, RECURRENCES

names = st.sampled_from(AFFINE)
seeds = st.integers(0, 2**32 - 1)
identity = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@st.composite
def walks(draw: st.DrawFn) -> tuple[str, Tensor, Tensor | None, Tensor]:
    """A recurrence, stacked inputs (B, T, K*H), h0 (B, H) or None, reset (B, T)."""
    name = draw(names)
    B, T, H = draw(st.integers(0, 3)), draw(st.integers(0, 40)), draw(st.integers(1, 40))
    torch.manual_seed(draw(seeds))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    scale = draw(st.sampled_from([1.0, 30.0, 1e4])) if name != "linear" else 0.7
    x = (torch.randn(B, T, RECURRENCES[name].inputs * H) * scale).to(dtype)
    h0 = torch.randn(B, H, dtype=torch.promote_types(dtype, torch.float32)) if draw(st.booleans()) else None
    return name, x, h0, torch.rand(B, T) < draw(st.sampled_from([0.0, 0.1]))


def close(given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """The same but for what carrying a float32 state rounds off; h may then fall on the other side of a bfloat16."""
    torch.testing.assert_close(given[1], wanted[1], rtol=1e-6, atol=1e-6)
    bfloat16 = wanted[0].dtype == torch.bfloat16
    torch.testing.assert_close(given[0], wanted[0], rtol=1e-2 if bfloat16 else 1e-6, atol=1e-6)


def same(given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """The same bits."""
    assert torch.equal(given[0], wanted[0]) and torch.equal(given[1], wanted[1])


@given(walks(), st.data())
@identity
def test_chunks_are_the_whole(case: tuple[str, Tensor, Tensor | None, Tensor], data: st.DataObject) -> None:
    name, x, h0, reset = case
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[1]), max_size=4)))
    h, state = [x[:, :0, : x.shape[2] // RECURRENCES[name].inputs]], h0
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        piece, state = walk(name, x[:, start:stop], state, reset[:, start:stop])
        h.append(piece)
    assert state is not None
    close((torch.cat(h, dim=1), state), walk(name, x, h0, reset))


@given(walks())
@identity
def test_single_steps_are_the_whole(case: tuple[str, Tensor, Tensor | None, Tensor]) -> None:
    name, x, h0, reset = case
    h, state = [x[:, :0, : x.shape[2] // RECURRENCES[name].inputs]], h0
    for t in range(x.shape[1]):
        piece, state = walk(name, x[:, t : t + 1], state, reset[:, t : t + 1])
        h.append(piece)
    whole = walk(name, x, h0, reset)
    close((torch.cat(h, dim=1), whole[1] if state is None else state.to(whole[1].dtype)), whole)


@given(walks(), st.data())
@identity
def test_a_reset_separates_sequences(case: tuple[str, Tensor, Tensor | None, Tensor], data: st.DataObject) -> None:
    name, x, h0, _ = case
    B, T = x.shape[:2]
    starts = [data.draw(st.integers(0, T)) for _ in range(B)]  # no reset where it is T
    reset = torch.arange(T) == torch.tensor(starts, dtype=torch.int64)[:, None]
    h, h_last = walk(name, x, h0, reset)
    for b, start in enumerate(starts):
        first = walk(name, x[b : b + 1, :start], None if h0 is None else h0[b : b + 1])
        # A call of one step is made of torch operations, which round differently.
        equal = close if start == 1 else same
        equal((h[b : b + 1, :start], h_last[b : b + 1]), first if start == T else (first[0], h_last[b : b + 1]))
        if start < T:
            equal = close if T - start == 1 else same
            equal((h[b : b + 1, start:], h_last[b : b + 1]), walk(name, x[b : b + 1, start:]))


@given(walks(), st.sampled_from(["cpu", "torch", "definition"]))
@identity
def test_reversed_is_flip_walk_flip(case: tuple[str, Tensor, Tensor | None, Tensor], chosen: str) -> None:
    name, x, h0, reset = case
    with backend(chosen):
        h, h_last = walk(name, x.flip(1), h0, reset.flip(1))
        given_ = walk(name, x, h0, reset, reverse=True)
    if chosen == "cpu":
        same(given_, (h.flip(1), h_last))
    torch.testing.assert_close(given_, (h.flip(1), h_last), rtol=1e-2 if x.dtype == torch.bfloat16 else 1e-5, atol=1e-4)


@given(walks(), st.data())
@identity
def test_sequences_and_channels_are_independent(
    case: tuple[str, Tensor, Tensor | None, Tensor], data: st.DataObject
) -> None:
    name, x, h0, reset = case
    K = RECURRENCES[name].inputs
    B, T, H = x.shape[0], x.shape[1], x.shape[2] // K
    b, c = data.draw(st.integers(0, B)), data.draw(st.integers(0, H - 1))
    some = x.view(B, T, K, H)[:b, :, :, c:].flatten(2)
    h, h_last = walk(name, x, h0, reset)
    same(walk(name, some, None if h0 is None else h0[:b, c:], reset[:b]), (h[:b, :, c:], h_last[:b, c:]))


def outputs_and_gradients(chosen: str, name: str, x: Tensor, h0: Tensor | None, reset: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with backend(chosen):
        h, h_last = walk(name, x, h0, reset)
        weights = torch.linspace(-1, 1, h.numel(), dtype=torch.float64).view(h.shape)
        return [h, h_last, *torch.autograd.grad((h * weights).sum() + h_last.sum() + x.sum() * 0, x)]


@given(walks(), st.sampled_from(["cpu", "torch"]))
@identity
def test_extreme_logits_agree_with_the_definition(case: tuple[str, Tensor, Tensor | None, Tensor], chosen: str) -> None:
    name, x, h0, reset = case
    x = x.clamp(-1e4, 1e4)
    K = RECURRENCES[name].inputs
    if name != "linear" and x.numel():  # gates where exp under- and overflows, candidates around 1
        corners = torch.tensor([-1e4, -800, -104, -89, -87, -17, 0, 17, 87, 89, 104, 800, 1e4], dtype=x.dtype)
        pick = torch.randint(len(corners), x.shape)
        gates = x.shape[2] - x.shape[2] // K
        x = torch.where((torch.rand(x.shape) < 0.5) & (torch.arange(x.shape[2]) < gates), corners[pick], x)
        x = torch.where((torch.arange(x.shape[2]) >= gates) & (x.abs() > 100), x / 1e4, x)
    expected = outputs_and_gradients("definition", name, x.double(), h0 if h0 is None else h0.double(), reset)
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 3e-2}[x.dtype]
    for given_, wanted in zip(outputs_and_gradients(chosen, name, x, h0, reset), expected, strict=True):
        scale = max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0
        torch.testing.assert_close(given_.double() / scale, wanted / scale, rtol=0, atol=tolerance)


# --- numbers that are none --------------------------------------------------------------------------------------------

NAN_BITS = {
    "default": 0x7FC00000,
    "negative": -0x400000,
    "payload": 0x7FC00001,
    "all ones": -1,
    "signalling": 0x7F800001,
}


def with_nan(name: str, k: int, bits: int = NAN_BITS["default"]) -> Tensor:
    """Random inputs (1, 6, K*3) with one NaN: step 2 and channel 1 of input k."""
    torch.manual_seed(0)
    x = torch.rand(1, 6, RECURRENCES[name].inputs * 3) + 0.1
    x.view(torch.int32)[0, 2, k * 3 + 1] = bits
    assert x.isnan().sum() == 1
    return x


@pytest.mark.parametrize(("name", "k"), [(name, k) for name in AFFINE for k in range(RECURRENCES[name].inputs)])
@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
def test_nan_stays_visible_in_its_channel(name: str, k: int, chosen: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = with_nan(name, k).to(dtype).requires_grad_()
        with backend(chosen):
            h, h_last = walk(name, x)
            (dx,) = torch.autograd.grad(h.sum(), x)
        assert h.isnan()[0].tolist() == [[False, t >= 2, False] for t in range(6)]
        assert h_last.isnan()[0].tolist() == [False, True, False]
        assert dx.isnan()[0, :, 1::3].any() and not dx.isnan()[0, :, 0::3].any()


@pytest.mark.parametrize("bits", NAN_BITS.values(), ids=NAN_BITS)
@pytest.mark.parametrize(("name", "k"), [("mingru/identity", 0), ("mingru/tanh", 1), ("mingru/g", 1), ("minlstm/g", 0)])
def test_nan_of_any_bits_stays_visible(name: str, k: int, bits: int) -> None:
    h, _ = walk(name, with_nan(name, k, bits))
    assert h.isnan()[0].tolist() == [[False, t >= 2, False] for t in range(6)]


@pytest.mark.parametrize(("name", "k"), [(name, k) for name in AFFINE for k in range(RECURRENCES[name].inputs)])
def test_nan_ends_at_a_reset(name: str, k: int) -> None:
    x = with_nan(name, k).requires_grad_()
    reset = torch.arange(6)[None] == 4
    h, h_last = walk(name, x, reset=reset)
    assert h.isnan()[0].tolist() == [[False, 2 <= t < 4, False] for t in range(6)]
    (dx,) = torch.autograd.grad(h[:, 4:].sum() + h_last.sum(), x)
    assert not dx[:, 4:].isnan().any()


INFINITY = float("inf")


@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_infinite_logits_are_limits(chosen: str, dtype: torch.dtype) -> None:
    candidate = torch.tensor([3.0, 5.0, 7.0], dtype=dtype).view(1, 3, 1)
    h0 = torch.full((1, 1), 2.0)

    def column(*values: float) -> Tensor:
        return torch.tensor(values, dtype=dtype).view(1, -1, 1)

    with backend(chosen):
        h, _ = mingru(column(INFINITY, -INFINITY, INFINITY), candidate, h0)
        assert h.flatten().tolist() == [3, 3, 7]
        forget, input = column(-INFINITY, INFINITY, INFINITY), column(INFINITY, -INFINITY, INFINITY)
        h, _ = minlstm(forget, input, candidate, h0)
        assert h.flatten().tolist() == [3, 3, 5]
        h, _ = minlstm(forget, input, candidate, h0, normalize=False)
        assert h.flatten().tolist() == [3, 3, 10]


@pytest.mark.parametrize("chosen", ["cpu", "torch", "definition"])
def test_an_infinite_candidate_stays_visible_in_its_channel(chosen: str) -> None:
    gate, candidate = torch.zeros(1, 4, 3), torch.ones(1, 4, 3)
    candidate[0, 1, 1] = INFINITY
    with backend(chosen):
        for h, _ in (mingru(gate, candidate), minlstm(gate, gate, candidate)):
            assert h.isfinite()[0].tolist() == [[True, t < 1, True] for t in range(4)]
