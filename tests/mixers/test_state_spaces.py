"""S4D against its convolution; the chunked form of DeltaNet against the product of its transitions; misuse."""

from typing import Any

import pytest
import torch

from minrnn.mixers import S4DMixer, build


@pytest.mark.parametrize("spectrum", ["lin", "inv"])
def test_s4d_is_its_convolution(spectrum: str) -> None:
    """y = K * u + D u with K_l = 2 Re sum_n Cbar_n Abar_n^l (arXiv 2206.11893, section 3)."""
    torch.manual_seed(0)
    T, D, N = 50, 3, 8
    mixer = S4DMixer(D, state=N, spectrum=spectrum).double()
    x = torch.randn(2, T, D, dtype=torch.float64)
    A = torch.complex(-mixer.A_log.exp(), mixer.A_imag)  # (N / 2, D)
    A_bar = torch.exp(mixer.log_dt.exp() * A)
    C_bar = torch.complex(mixer.C[0], mixer.C[1]) * (A_bar - 1) / A
    kernel = 2 * torch.stack([(C_bar * A_bar**n).sum(dim=0).real for n in range(T)])  # (T, D)
    steps = [(kernel[: t + 1].flip(0) * x[:, : t + 1]).sum(dim=1) + mixer.D * x[:, t] for t in range(T)]
    value, gate = mixer.down(torch.nn.functional.gelu(torch.stack(steps, dim=1), approximate="tanh")).chunk(2, dim=-1)
    torch.testing.assert_close(mixer(x)[0], value * gate.sigmoid())


def test_spectra_of_s4d() -> None:
    n = torch.arange(4)
    lin, inv = (S4DMixer(2, state=8, spectrum=spectrum).A_imag[:, 0].detach() for spectrum in ("lin", "inv"))
    torch.testing.assert_close(lin, torch.pi * n)
    torch.testing.assert_close(inv, 8 / torch.pi * (8 / (2 * n + 1) - 1))


def test_deltanet_is_a_product_of_its_transitions() -> None:
    torch.manual_seed(0)
    D, T = 6, 40
    mixer: Any = build("deltanet", width=D, heads=1, conv=1, chunk=16).double()
    x = torch.randn(1, T, D, dtype=torch.float64)
    qkv = torch.nn.functional.silu(mixer.projection(x) * mixer.conv_weight[:, 0] + mixer.conv_bias)
    q, k, v = qkv[0].chunk(3, dim=-1)
    q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    alpha, beta = mixer.rates(x)[0].chunk(2, dim=-1)
    alpha = torch.exp(-mixer.decay.exp() * torch.nn.functional.softplus(alpha))
    beta = 2 * beta.sigmoid()
    S, outputs = torch.zeros(D, D, dtype=torch.float64), []
    for t in range(T):
        S = alpha[t] * S @ (torch.eye(D) - beta[t] * k[t, :, None] * k[t]) + beta[t] * v[t, :, None] * k[t]
        outputs.append(S @ q[t])
    o = torch.nn.functional.rms_norm(torch.stack(outputs), (D,), mixer.norm_weight, eps=1e-6)
    expected = mixer.down(o * torch.nn.functional.silu(mixer.gate(x)[0]))
    y, state = mixer(x)
    torch.testing.assert_close(y[0], expected)
    torch.testing.assert_close(state.S[0, 0], S)


@pytest.mark.parametrize("name", ["deltanet", "mlstm"])
def test_long_sequences_of_large_numbers_stay_finite(name: str) -> None:
    torch.manual_seed(0)
    mixer, x = build(name, width=64), 30 * torch.randn(2, 3000, 64).requires_grad_()
    y, state = mixer(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all() and dx.isfinite().all() and all(part.isfinite().all() for part in state)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s4d", {"state": 5}, "state is 5; expected an even number, 2 or more"),
        ("s4d", {"spectrum": "legs"}, "spectrum is 'legs'; expected one of 'lin', 'inv'"),
        ("s4d", {"dt_min": 0.2}, "dt_min and dt_max are 0.2 and 0.1; expected 0 < dt_min <= dt_max"),
        ("mamba", {"state": 0}, "state is 0; expected 1 or more"),
        ("mamba", {"rank": 0}, "rank is 0; expected 1 or more"),
        ("mlstm", {"heads": 3}, "heads is 3; expected a divisor of the inner width H = 16"),
        ("mlstm", {"block": 5}, "block is 5; expected a divisor of the inner width H = 16"),
        ("deltanet", {"chunk": 0}, "chunk is 0; expected 1 step or more"),
        ("deltanet", {"heads": 3}, "heads is 3; expected a divisor of the width 8"),
        ("srupp", {"projection": 3, "heads": 2}, "projection is 3; expected a multiple of heads = 2"),
    ],
)
def test_options_that_do_not_fit_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, width=8, **options)
