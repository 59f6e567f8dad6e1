"""sLSTM against its equations without a stabiliser, and where only a stabiliser helps."""

import pytest
import torch
from torch import Tensor

from minrnn.mixers import SLSTMMixer, build
from minrnn.recurrence import backend, slstm_scan

B, T, HEADS, d = 2, 11, 3, 5
H = HEADS * d


def arguments(scale: float, dtype: torch.dtype) -> list[Tensor]:
    """Logits [i | f] and [z | o], and R."""
    torch.manual_seed(0)
    logits = [scale * torch.randn(B, T, 2 * H, dtype=dtype) for _ in range(2)]
    return [tensor.requires_grad_() for tensor in (*logits, torch.randn(HEADS, d, 4 * d, dtype=dtype) / 2)]


def unstabilised(input_forget: Tensor, cell_output: Tensor, R: Tensor) -> Tensor:
    """Equations 8 to 14 of arXiv 2405.04517 as they stand, one head after the other."""
    of_x = [part.unflatten(-1, (2, HEADS, d)) for part in (input_forget, cell_output)]
    outputs = []
    for head in range(HEADS):
        h = c = n = of_x[0].new_zeros(B, d)
        steps = []
        for t in range(T):
            i, f, z, o = (
                of_x[gate // 2][:, t, gate % 2, head] + h @ R[head, :, gate * d : (gate + 1) * d] for gate in range(4)
            )
            c = f.sigmoid() * c + i.exp() * z.tanh()
            n = f.sigmoid() * n + i.exp()
            h = o.sigmoid() * c / n
            steps.append(h)
        outputs.append(torch.stack(steps, dim=1))
    return torch.cat(outputs, dim=-1)


def test_the_stabiliser_changes_neither_outputs_nor_gradients() -> None:
    given, upstream = arguments(1.0, torch.float64), torch.randn(B, T, H, dtype=torch.float64)
    h, _ = slstm_scan(*given, torch.zeros(B, 4, H, dtype=torch.float64))
    expected = unstabilised(*given)
    torch.testing.assert_close(h, expected)
    actual, right = (torch.autograd.grad((y * upstream).sum(), given) for y in (h, expected))
    torch.testing.assert_close(actual, right)


@pytest.mark.parametrize("path", ["cpu", "definition"])
@pytest.mark.parametrize("scale", [50.0, 1e4])
def test_gates_beyond_the_range_of_exp(scale: float, path: str) -> None:
    given = arguments(scale, torch.float32)
    with backend(path):
        h, _ = slstm_scan(*given, torch.zeros(B, 4, H))
        gradients = torch.autograd.grad(h.sum(), given)
    exact, _ = slstm_scan(*(tensor.double() for tensor in given), torch.zeros(B, 4, H, dtype=torch.float64))
    torch.testing.assert_close(h.double(), exact, rtol=0, atol=1e-3)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_is_not_a_number_stays_so() -> None:
    given = [tensor.detach() for tensor in arguments(1.0, torch.float32)]
    given[0][0, 4, 0] = torch.nan
    h, _ = slstm_scan(*given, torch.zeros(B, 4, H))
    assert h[0, 4:, 0].isnan().all()
    assert h[0, :4].isfinite().all()
    assert h[1].isfinite().all()


def test_first_weights() -> None:
    """R at zero; forget biases from 5 to -7 in each head."""
    mixer = SLSTMMixer(64, heads=4)
    assert mixer.recurrent.eq(0).all()
    assert mixer.input_forget.bias is not None
    biases = mixer.input_forget.bias[64:].view(4, 16)
    torch.testing.assert_close(biases[:, [0, -1]], torch.tensor([[5.0, -7.0]]).expand(4, 2))
    assert (biases.diff(dim=1) < 0).all()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"heads": 3}, "heads is 3; expected a divisor of the width 8"),
        ({"heads": 0}, "heads is 0; expected a divisor of the width 8"),
        ({"conv": 0}, "conv is 0; expected 1 step or more"),
    ],
)
def test_options_that_do_not_fit_are_named(chosen: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("slstm", width=8, **chosen)
