"""GILR-LSTM against its equations."""

import torch

from minrnn.mixers import GILRLSTMMixer


def test_gates_see_the_gilr_of_the_step_before() -> None:
    torch.manual_seed(0)
    mixer = GILRLSTMMixer(6, expansion=1.5).double()
    x = torch.randn(2, 11, 6, dtype=torch.float64)
    h = c = torch.zeros(2, 9, dtype=torch.float64)
    outputs = []
    for t in range(11):
        f, i, o, z = mixer.projection(torch.cat([h, x[:, t]], dim=-1)).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * z.tanh()
        outputs.append(mixer.down(o.sigmoid() * c))
        g, v = mixer.surrogate(x[:, t]).chunk(2, dim=-1)
        h = g.sigmoid() * h + (1 - g.sigmoid()) * v.tanh()
    y, state = mixer(x)
    torch.testing.assert_close(y, torch.stack(outputs, dim=1))
    torch.testing.assert_close((state.h, state.c), (h, c))


def test_forget_bias_is_at_the_forget_gate() -> None:
    mixer = GILRLSTMMixer(64, forget_bias=5.0)
    mean = mixer.projection.bias.detach().view(4, 64).mean(dim=1)
    torch.testing.assert_close(mean, torch.tensor([5.0, 0.0, 0.0, 0.0]), rtol=0, atol=0.1)
