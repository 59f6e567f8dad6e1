"""Converted mixers give the numbers of the implementations that their weights come from.

`make peers` installs those and runs this file; elsewhere each test says in its name what it waits for.
"""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from minrnn.mixers import Mixer, convert

# What peers use that torch or Python no longer likes is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

B, T, D = 2, 37, 16


def needs(package: str) -> Any:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}: make peers")


def shaken(module: nn.Module) -> Any:
    """Weights away from zeros and ones, which would hide what they multiply."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            known = parameter.nan_to_num(0, 0, 0).clamp(-3, 3)  # some are left as the memory was
            parameter.copy_(known + 0.2 * torch.randn_like(parameter))
    return module.eval()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * float(expected.detach().abs().max()))


def stepped(mixer: Mixer, x: Tensor) -> Tensor:
    state, steps = None, []
    for t in range(x.shape[1]):
        y, state = mixer(x[:, t : t + 1], state)
        steps.append(y)
    return torch.cat(steps, dim=1)


@needs("minGRU_pytorch")
@pytest.mark.parametrize("factor", [1.0, 1.5])
@torch.no_grad()
def test_mingru_of_mingru_pytorch(factor: float) -> None:
    from minGRU_pytorch import minGRU

    peer, x = shaken(minGRU(D, expansion_factor=factor)), random(B, T, D)
    mixer = convert.mingru(peer)
    close(mixer(x)[0], peer(x))
    first, h = peer(x[:, :20], return_next_prev_hidden=True)
    second = peer(x[:, 20:], h)
    close(stepped(mixer, x), torch.cat([first, second], dim=1))


@needs("minGRU_pytorch")
@torch.no_grad()
def test_minlstm_of_mingru_pytorch() -> None:
    from minGRU_pytorch.minLSTM import minLSTM

    peer, x = shaken(minLSTM(D, expansion_factor=1.5)), random(B, T, D)
    mixer = convert.minlstm(peer)
    h, steps = None, []
    for t in range(T):
        y, h = peer(x[:, t : t + 1], h, return_next_prev_hidden=True)
        steps.append(y)
    close(mixer(x)[0], peer(x))
    close(mixer(x)[0], torch.cat(steps, dim=1))
    _, h = peer(x[:, :20], return_next_prev_hidden=True)  # goes on through g, as the docstring says
    assert not torch.allclose(peer(x[:, 20:], h)[:, 0], steps[20][:, 0], rtol=1e-3)


@needs("sru")
@pytest.mark.filterwarnings("ignore:Just-in-time loading:UserWarning", "ignore:use_tanh = True:UserWarning")
@pytest.mark.parametrize(
    "options", [{}, {"use_tanh": True, "highway_bias": -1.0}, {"projection_size": 8, "rescale": False}]
)
@torch.no_grad()
def test_sru(options: dict[str, Any]) -> None:
    from sru import SRU

    peer, x = shaken(SRU(D, D, num_layers=1, **options)), random(B, T, D)
    mixer = convert.sru(peer, prefix="rnn_lst.0.", activation="tanh" if "use_tanh" in options else "identity")
    c_0 = random(1, B, D)
    y, c = peer(x.transpose(0, 1), c_0)
    ours, state = mixer(x, mixer.initial_state(B)._replace(h=c_0[0]))
    close(ours, y.transpose(0, 1))
    close(state.h, c[0])


@needs("transformers")
@torch.no_grad()
def test_mamba_of_transformers() -> None:
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(
        vocab_size=11, hidden_size=D, state_size=5, num_hidden_layers=2, conv_kernel=3, time_step_rank=3
    )
    peer = shaken(MambaModel(config))
    mixers = [convert.mamba(peer, prefix=f"layers.{n}.mixer.") for n in range(2)]
    x = random(B, T, D)
    for n, mixer in enumerate(mixers):
        expected = peer.layers[n].mixer(x)
        close(mixer(x)[0], expected)
        close(stepped(mixer, x), expected)


@needs("mambapy")
def test_mamba_of_mambapy() -> None:
    from mambapy.mamba import MambaBlock, MambaConfig

    peer, x = shaken(MambaBlock(MambaConfig(d_model=D, n_layers=1, d_state=6))), random(B, T, D)
    mixer = convert.mamba(peer)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = mixer(ours)[0], peer(theirs)
    close(y, expected)
    upstream = random(B, T, D)
    close(*(torch.autograd.grad(out, given, upstream)[0] for out, given in ((y, ours), (expected, theirs))))
    cache, steps = (None, torch.zeros(B, peer.config.d_inner, peer.config.d_conv - 1)), []
    with torch.no_grad():
        for t in range(T):
            y, cache = peer.step(x[:, t], cache)
            steps.append(y)
        close(mixer(x)[0], torch.stack(steps, dim=1))


@needs("transformers")
@torch.no_grad()
def test_rwkv4_of_transformers() -> None:
    from transformers import RwkvConfig
    from transformers.models.rwkv.modeling_rwkv import RwkvBlock

    peer = shaken(RwkvBlock(RwkvConfig(vocab_size=11, hidden_size=D, num_hidden_layers=2), layer_id=1))
    x = random(B, T, D)
    mixer = convert.rwkv4(peer, prefix="attention.")
    expected, _ = peer.attention(x)
    y, state = mixer(x)
    close(y, expected)
    # The last channel of their state is the layer; the exponent of an empty sum is -1e38.
    carried = [torch.zeros(B, D, 2) for _ in range(4)] + [torch.full((B, D, 2), -1e38)]
    _, carried = peer.attention(x[:, :20], state=carried, use_cache=True)
    second, carried = peer.attention(x[:, 20:], state=carried, use_cache=True)
    close(second, expected[:, 20:])
    values, weights = state.values * state.exponent.exp(), state.weights * state.exponent.exp()
    exponent = carried[4][..., 1].exp()
    close(values, carried[2][..., 1] * exponent)
    close(weights, carried[3][..., 1] * exponent)


@needs("transformers")
@torch.no_grad()
def test_the_channel_mixing_of_rwkv4_is_that_of_transformers() -> None:
    from transformers import RwkvConfig
    from transformers.models.rwkv.modeling_rwkv import RwkvFeedForward

    from minrnn.mixers import build

    peer = shaken(RwkvFeedForward(RwkvConfig(vocab_size=11, hidden_size=D, num_hidden_layers=1)))
    channel: Any = build("rwkv4", width=D).channel
    channel.mix.copy_(torch.cat([peer.time_mix_receptance[0], peer.time_mix_key[0]]))
    for ours, theirs in ((channel.receptance, peer.receptance), (channel.key, peer.key), (channel.down, peer.value)):
        ours.weight.copy_(theirs.weight)
    x = random(B, T, D)
    close(channel(x, None, None)[0], peer(channel.norm(x))[0])


@needs("transformers")
@torch.no_grad()
def test_recurrent_gemma_of_transformers() -> None:
    from transformers import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

    config = RecurrentGemmaConfig(hidden_size=D, lru_width=24, num_attention_heads=4, vocab_size=11)
    peer = shaken(RecurrentGemmaRecurrentBlock(config, layer_idx=0))
    mixer, x = convert.recurrent_gemma(peer), random(B, T, D)
    positions = torch.arange(T).expand(B, -1)
    expected, _ = peer(x, positions, None, use_cache=False)
    close(mixer(x)[0], expected)
    close(stepped(mixer, x), expected)
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[:, 0] = reset[1, 9] = True
    alone = peer(x[1:, 9:], positions[:1, : T - 9], None, use_cache=False)[0]
    close(mixer(x, reset=reset)[0][1:, 9:], alone)


@needs("xlstm")
@torch.no_grad()
def test_slstm_of_xlstm() -> None:
    from xlstm.blocks.slstm.layer import sLSTMLayer, sLSTMLayerConfig

    config = sLSTMLayerConfig(embedding_dim=D, num_heads=4, backend="vanilla", dropout=0.0, _num_blocks=2)
    peer, x = shaken(sLSTMLayer(config)), random(B, T, D)
    mixer = convert.slstm(peer)
    expected = peer(x)
    close(mixer(x)[0], expected, 1e-4)
    close(stepped(mixer, x), expected, 1e-4)


@needs("xlstm")
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_mlstm_of_xlstm(bias: bool) -> None:
    from xlstm.blocks.mlstm.layer import mLSTMLayer, mLSTMLayerConfig

    config = mLSTMLayerConfig(
        embedding_dim=D, num_heads=2, context_length=T, bias=bias, dropout=0.0, _inner_embedding_dim=2 * D
    )
    peer, x = shaken(mLSTMLayer(config)), random(B, T, D)
    mixer = convert.mlstm(peer)
    expected = peer(x)
    close(mixer(x)[0], expected, 1e-4)
    state: dict[str, Any] = {}
    steps = []
    for t in range(T):
        y, state = peer.step(x[:, t : t + 1], **state)
        steps.append(y)
    close(mixer(x)[0], torch.cat(steps, dim=1), 1e-4)
