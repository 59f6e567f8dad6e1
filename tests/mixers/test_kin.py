"""What the suite of the contract cannot see of single mixers: their options, their first weights, their numbers."""

import math

import pytest
import torch

from minrnn.mixers import HGRNMixer, QRNNMixer, RGLRUMixer, RWKV4Mixer, SRUMixer, build


def test_zoneout_keeps_states_in_training_alone() -> None:
    torch.manual_seed(0)
    mixer = QRNNMixer(64, pooling="f", zoneout=0.4)
    x = torch.randn(2, 50, 64)
    seen: list[torch.Tensor] = []
    mixer.down.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    mixer(x)
    mixer.eval()(x)
    training, evaluation = ((h[:, 1:] == h[:, :-1]).float().mean().item() for h in seen)
    assert abs(training - 0.4) < 0.03
    assert evaluation == 0


def test_qrnn_is_a_convolution_and_a_pooling() -> None:
    """ifo-pooling written from the paper, with torch's own convolution."""
    torch.manual_seed(0)
    mixer = QRNNMixer(6, pooling="ifo", filter=3).double()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    weight = mixer.projection.weight.unflatten(1, (3, 6)).movedim(1, 2)
    convolved = torch.nn.functional.conv1d(torch.nn.functional.pad(x.mT, (2, 0)), weight, mixer.projection.bias).mT
    f, i, o, z = convolved.chunk(4, dim=-1)
    c, out = torch.zeros(2, 6, dtype=torch.float64), []
    for t in range(9):
        c = f[:, t].sigmoid() * c + i[:, t].sigmoid() * z[:, t].tanh()
        out.append(o[:, t].sigmoid() * c)
    torch.testing.assert_close(mixer(x)[0], mixer.down(torch.stack(out, 1)))


def test_gates_of_hgrn_keep_more_in_upper_layers() -> None:
    """At the start gamma of layer k of L is k / L: no state forgets faster."""
    for layer in range(3):
        mixer = HGRNMixer(8, layer=layer, num_layers=4, complex=False)
        with torch.no_grad():
            mixer.projection.weight.zero_()
            mixer.projection.bias.fill_(-1e4)  # gates shut, candidates 0
        _, state = mixer(torch.zeros(1, 1, 8), mixer.initial_state(1)._replace(h=torch.ones(1, 8)))
        torch.testing.assert_close(state.h, torch.full((1, 8), layer / 4))


def test_rglru_starts_with_long_memories() -> None:
    torch.manual_seed(0)
    mixer = RGLRUMixer(512)
    factor = torch.exp(-torch.nn.functional.softplus(mixer.rate.detach()))
    assert 0.9 <= float(factor.min()) < 0.91
    assert 0.998 < float(factor.max()) <= 0.999


def test_a_first_step_of_rglru_is_not_scaled() -> None:
    """A state of zeros that was reached differs from the start of a sequence."""
    torch.manual_seed(0)
    mixer = RGLRUMixer(8)
    x = torch.randn(1, 1, 8)
    start = mixer.initial_state(1)
    reached = start._replace(seen=torch.ones(1, 8))
    (_, first), (_, later) = mixer(x, start), mixer(x, reached)
    assert (first.h.abs() > later.h.abs()).all()


def test_sru_rescales_its_highway() -> None:
    assert SRUMixer(8, highway_bias=-2.0).alpha[0, 0].item() == pytest.approx(math.sqrt(1 + 2 * math.exp(-2)))
    assert SRUMixer(8, rescale=False).alpha.eq(1).all()
    assert SRUMixer(8, version=1).recurrent is None


def test_wkv_is_the_weighted_mean_of_the_paper() -> None:
    """Equation 14 as it stands, with keys so large that only a stabilised sum survives them."""
    torch.manual_seed(0)
    mixer = RWKV4Mixer(8, channel_mix=False)
    with torch.no_grad():
        mixer.key.weight *= 100
    assert mixer(torch.randn(2, 300, 8))[0].isfinite().all()
    mixer = mixer.double()
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    r, k, v = (
        part(mu * x + (1 - mu) * before)
        for part, mu in zip((mixer.receptance, mixer.key, mixer.value), mixer.mix, strict=True)
    )
    w, u = mixer.decay.exp(), mixer.bonus
    rows = []
    for t in range(12):
        exponents = torch.stack([k[0, i] - (t - 1 - i) * w for i in range(t)] + [u + k[0, t]])
        rows.append((exponents.softmax(dim=0) * v[0, : t + 1]).sum(dim=0))
    torch.testing.assert_close(mixer(x)[0], mixer.down(r.sigmoid() * torch.stack(rows)[None]))


@pytest.mark.parametrize("name", ["mingru", "minlstm", "gilr", "signed", "nonlinear", "qrnn", "sru", "hgrn", "rwkv4"])
def test_weight_decay_spares_gates_and_biases(name: str) -> None:
    mixer = build(name, width=8, layer=1, num_layers=2)
    for parameter_name, parameter in mixer.named_parameters():
        spared = getattr(parameter, "no_weight_decay", False)
        assert spared or parameter.dim() == 2, parameter_name
        assert not (spared and parameter_name == "down.weight")
