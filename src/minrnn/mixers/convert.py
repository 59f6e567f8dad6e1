"""Mixers with the weights of other implementations: same weights in, same numbers out.

Every function takes the peer's module, or a mapping from its names to tensors as `safetensors.torch.load_file` gives
it, with the prefix under which the layer stands in a checkpoint; the peer need not be installed. Sizes are read off the
shapes. What a peer's layer has and ours has not is refused, never dropped.

    from safetensors.torch import load_file
    from minrnn.mixers import convert
    mixer = convert.mamba(load_file("model.safetensors"), prefix="backbone.layers.0.mixer.")

The mLSTM of `transformers`, xLSTM 7B, is another block than the paper's (no convolution, full maps to queries and keys,
capped gates), and is not converted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._contract import Mixer
from ._mamba import MambaMixer
from ._minimal import MinGRUMixer, MinLSTMMixer
from ._mlstm import MLSTMMixer
from ._rglru import RGLRUMixer
from ._rwkv4 import RWKV4Mixer
from ._slstm import SLSTMMixer
from ._sru import SRUMixer

Source = nn.Module | Mapping[str, Tensor]


class _Weights:
    """The weights of one layer of a peer, which are all to be taken."""

    def __init__(self, source: Source, prefix: str = "") -> None:
        weights = source.state_dict() if isinstance(source, nn.Module) else source
        self.prefix = prefix
        self.left = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        if not self.left:
            raise ValueError(f"no name begins with prefix {prefix!r}; there are {', '.join(sorted(weights)[:8])}, ...")

    def take(self, name: str, *shape: int) -> Tensor:
        """A weight; a length of -1 in `shape` may be anything."""
        if name not in self.left:
            raise ValueError(f"there is no {self.prefix}{name}; left are {', '.join(sorted(self.left)) or 'none'}")
        value = self.left.pop(name).detach()
        if len(value.shape) != len(shape) or any(w not in (-1, n) for n, w in zip(value.shape, shape, strict=True)):
            wanted = tuple("any" if length == -1 else length for length in shape)
            raise ValueError(f"{self.prefix}{name} has shape {tuple(value.shape)}; expected {wanted}")
        return value

    def into(self, mixer: Mixer, weights: dict[str, Tensor]) -> None:
        """Give the mixer its weights, and refuse what was not taken."""
        if self.left:
            raise ValueError(f"{type(mixer).__name__} has no counterpart of {self.prefix}{sorted(self.left)[0]}")
        mixer.to(dtype=next(iter(weights.values())).dtype)
        mixer.load_state_dict(weights)


def mingru(source: Source, *, prefix: str = "") -> MinGRUMixer:
    """From minGRU of `mingru-pytorch`, whose candidates go through g and whose forms in log space and in steps agree.

    A layer without `to_out`, which is one whose inner width is its width, gets an identity for W_down.

    Example:
        >>> mixer = mingru(minGRU_pytorch.minGRU(64, expansion_factor=1.5))
    """
    weights = _Weights(source, prefix)
    stacked = weights.take("to_hidden_and_gate.weight", -1, -1)  # [candidate | gate]
    H, D = len(stacked) // 2, stacked.shape[1]
    candidate, gate = stacked.chunk(2)
    mixer = MinGRUMixer(D, expansion=H / D, activation="g", bias=False)
    weights.into(mixer, {"cell.projection.weight": torch.cat([gate, candidate]), "down.weight": _out(weights, D, H)})
    return mixer


def minlstm(source: Source, *, prefix: str = "") -> MinLSTMMixer:
    """From minLSTM of `mingru-pytorch`.

    Where its form for sequences goes on from a state it puts that state through g, which neither its single steps nor
    this mixer do: those agree, and whole sequences do.

    Example:
        >>> mixer = minlstm(minGRU_pytorch.minLSTM(64))
    """
    weights = _Weights(source, prefix)
    stacked = weights.take("to_hidden_and_f_i_gate.weight", -1, -1)  # [candidate | forget | input]
    H, D = len(stacked) // 3, stacked.shape[1]
    candidate, forget, input = stacked.chunk(3)
    mixer = MinLSTMMixer(D, expansion=H / D, activation="g", bias=False)
    projection = torch.cat([forget, input, candidate])
    weights.into(mixer, {"cell.projection.weight": projection, "down.weight": _out(weights, D, H)})
    return mixer


def _out(weights: _Weights, D: int, H: int) -> Tensor:
    if "to_out.weight" in weights.left:
        return weights.take("to_out.weight", D, H)
    if D != H:
        raise ValueError(f"there is no {weights.prefix}to_out.weight, and the inner width {H} is not the width {D}")
    return torch.eye(D)


def sru(source: Source, *, prefix: str = "", activation: str = "identity") -> SRUMixer:
    """From a cell of `sru`, of version 2 without layer norm whose hidden width is its input width; W_down becomes the
    identity, which the peer has not.

    Args:
        activation: "tanh" for cells made with use_tanh=True, which their weights do not tell.

    Example:
        >>> mixer = sru(sru_package.SRU(64, 64, num_layers=2), prefix="rnn_lst.0.")
    """
    weights = _Weights(source, prefix)
    weight = weights.take("weight", -1, -1)
    if "weight_proj" in weights.left:
        weight = weights.take("weight_proj", -1, len(weight)) @ weight
    D = len(weight)
    if weight.shape[1] != 3 * D:
        raise ValueError(f"{prefix}weight has shape {tuple(weight.shape)}; expected (D, 3 * D): one direction, D = H")
    candidate, forget, reset = weight.view(D, D, 3).unbind(dim=-1)
    bias = weights.take("bias", 2 * D)
    mixer = SRUMixer(D, activation=activation)
    given = {
        "projection.weight": torch.cat([forget.T, reset.T, candidate.T]),
        "projection.bias": torch.cat([bias, bias.new_zeros(D)]),
        "recurrent": weights.take("weight_c", 2 * D).view(2, D),
        "alpha": weights.take("scale_x", 1).expand(1, D).clone(),
        "down.weight": torch.eye(D),
        "down.bias": torch.zeros(D),
    }
    weights.into(mixer, given)
    return mixer


def mamba(source: Source, *, prefix: str = "") -> MambaMixer:
    """From `MambaMixer` of transformers, or `MambaBlock` of mambapy, which share their names; without biases of the
    projections in and out, as in all published models.

    Example:
        >>> mixer = mamba(transformers_model, prefix="backbone.layers.0.mixer.")
    """
    weights = _Weights(source, prefix)
    A_log = weights.take("A_log", -1, -1)
    E, N = A_log.shape
    up = weights.take("in_proj.weight", 2 * E, -1)
    D = up.shape[1]
    conv = weights.take("conv1d.weight", E, 1, -1)
    delta = weights.take("dt_proj.weight", E, -1)
    R = delta.shape[1]
    mixer = MambaMixer(D, expansion=E / D, state=N, conv=conv.shape[2], rank=R)
    given = {
        "projection.weight": up[:E],
        "gate.weight": up[E:],
        "conv_weight": conv[:, 0],
        "conv_bias": weights.take("conv1d.bias", E),
        "selection.weight": weights.take("x_proj.weight", R + 2 * N, E),
        "delta.weight": delta,
        "delta.bias": weights.take("dt_proj.bias", E),
        "A_log": A_log,
        "D": weights.take("D", E),
        "down.weight": weights.take("out_proj.weight", D, E),
    }
    weights.into(mixer, given)
    return mixer


def rwkv4(source: Source, *, prefix: str = "") -> RWKV4Mixer:
    """The time mixing, from `RwkvSelfAttention` of transformers whose attention is as wide as the model.

    Its channel mixing stands behind a norm and a residual connection of its own, where `RWKV4Mixer` has both parts in
    one: the mixer is one with channel_mix=False.

    Example:
        >>> mixer = rwkv4(transformers_model, prefix="rwkv.blocks.0.attention.")
    """
    weights = _Weights(source, prefix)
    D = len(decay := weights.take("time_decay", -1))
    mixer = RWKV4Mixer(D, channel_mix=False)
    given = {
        "decay": decay,
        "bonus": weights.take("time_first", D),
        "mix": torch.cat([weights.take(f"time_mix_{name}", 1, 1, D)[0] for name in ("receptance", "key", "value")]),
        "receptance.weight": weights.take("receptance.weight", D, D),
        "key.weight": weights.take("key.weight", D, D),
        "value.weight": weights.take("value.weight", D, D),
        "down.weight": weights.take("output.weight", D, D),
    }
    weights.into(mixer, given)
    return mixer


def recurrent_gemma(source: Source, *, prefix: str = "") -> RGLRUMixer:
    """From `RecurrentGemmaRecurrentBlock` of transformers, with GELU in its tanh form, as the published models have.

    Example:
        >>> mixer = recurrent_gemma(transformers_model, prefix="model.layers.0.temporal_block.")
    """
    weights = _Weights(source, prefix)
    into = weights.take("linear_x.weight", -1, -1)
    H, D = into.shape
    conv = weights.take("conv_1d.weight", H, 1, -1)
    recurrent = weights.take("rg_lru.recurrent_gate_weight", -1, -1, -1)  # (heads, in, out)
    heads, d, _ = recurrent.shape
    input = weights.take("rg_lru.input_gate_weight", heads, d, d)
    biases = [weights.take(f"rg_lru.{name}_gate_bias", heads, d).flatten() for name in ("recurrent", "input")]
    mixer = RGLRUMixer(D, expansion=H / D, heads=heads, conv=conv.shape[2])
    given = {
        "projection.weight": torch.cat([into, weights.take("linear_y.weight", H, D)]),
        "projection.bias": torch.cat([weights.take("linear_x.bias", H), weights.take("linear_y.bias", H)]),
        "conv_weight": conv[:, 0],
        "conv_bias": weights.take("conv_1d.bias", H),
        "gates.weight": torch.stack([recurrent, input]).mT,
        "gates.bias": torch.cat(biases),
        "rate": weights.take("rg_lru.recurrent_param", H),
        "down.weight": weights.take("linear_out.weight", D, H),
        "down.bias": weights.take("linear_out.bias", D),
    }
    weights.into(mixer, given)
    return mixer


def slstm(source: Source, *, prefix: str = "") -> SLSTMMixer:
    """From `sLSTMLayer` of xlstm (NX-AI) with its plain backend ("vanilla"); W_down becomes the identity, which the
    peer has not.

    The peer's module `fgate` feeds the input gate and `igate` the forget gate, so that is how they are read.

    Example:
        >>> mixer = slstm(xlstm_model, prefix="xlstm_block_stack.blocks.0.xlstm.")
    """
    weights = _Weights(source, prefix)
    conv = weights.take("conv1d.conv.weight", -1, 1, -1)
    D = len(conv)
    into_input = weights.take("fgate.weight", -1, -1, -1)  # (heads, out, in)
    heads, d, _ = into_input.shape
    recurrent = weights.take("slstm_cell._recurrent_kernel_", heads, 4 * d, d)
    bias = weights.take("slstm_cell._bias_", 4 * D)
    mixer = SLSTMMixer(D, heads=heads, conv=conv.shape[2])
    given = {
        "conv_weight": conv[:, 0],
        "conv_bias": weights.take("conv1d.conv.bias", D),
        "input_forget.weight": torch.stack([into_input, weights.take("igate.weight", heads, d, d)]),
        "input_forget.bias": bias[: 2 * D],
        "cell_output.weight": torch.stack([weights.take(f"{gate}gate.weight", heads, d, d) for gate in "zo"]),
        "cell_output.bias": bias[2 * D :],
        "recurrent": recurrent.mT,
        "norm_weight": 1 + weights.take("group_norm.weight", D),
        "down.weight": torch.eye(D),
        "down.bias": torch.zeros(D),
    }
    weights.into(mixer, given)
    return mixer


def mlstm(source: Source, *, prefix: str = "") -> MLSTMMixer:
    """From `mLSTMLayer` of xlstm (NX-AI), with or without biases.

    Example:
        >>> mixer = mlstm(xlstm_model, prefix="xlstm_block_stack.blocks.0.xlstm.")
    """
    weights = _Weights(source, prefix)
    conv = weights.take("conv1d.conv.weight", -1, 1, -1)
    H = len(conv)
    up = weights.take("proj_up.weight", 2 * H, -1)
    D = up.shape[1]
    query = weights.take("q_proj.weight", -1, -1, -1)  # (blocks, out, in)
    block = query.shape[1]
    heads = len(of_input := weights.take("mlstm_cell.igate.weight", -1, 3 * H))
    gates = torch.cat([of_input, weights.take("mlstm_cell.fgate.weight", heads, 3 * H)])
    gate_bias = torch.cat([weights.take(f"mlstm_cell.{gate}gate.bias", heads) for gate in "if"])

    def bias(name: str, length: int) -> Tensor:
        return weights.take(name, length) if name in weights.left else up.new_zeros(length)

    mixer = MLSTMMixer(D, heads=heads, expansion=H / D, block=block, conv=conv.shape[2])
    given = {
        "up.weight": up,
        "up.bias": bias("proj_up.bias", 2 * H),
        "conv_weight": conv[:, 0],
        "conv_bias": weights.take("conv1d.conv.bias", H),
        "query_key.weight": torch.stack([query, weights.take("k_proj.weight", *query.shape)]),
        "query_key.bias": torch.cat([bias("q_proj.bias", H), bias("k_proj.bias", H)]),
        "value.weight": weights.take("v_proj.weight", *query.shape)[None],
        "value.bias": bias("v_proj.bias", H),
        "gates.weight": gates[:, : 2 * H],
        "gates.bias": gate_bias,
        "gates_of_value.weight": gates[:, 2 * H :],
        "norm_weight": 1 + weights.take("mlstm_cell.outnorm.weight", H),
        "skip": weights.take("learnable_skip", H),
        "down.weight": weights.take("proj_down.weight", D, H),
        "down.bias": bias("proj_down.bias", D),
    }
    weights.into(mixer, given)
    return mixer
