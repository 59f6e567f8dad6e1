from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ._layers import MinGRU, MinLSTM


@dataclass(frozen=True)
class Replacement:
    """What `replace_recurrent` did."""

    replaced: list[str] = field(default_factory=list)
    """Names of the modules that are new, as `model.get_submodule` takes them."""
    kept: dict[str, str] = field(default_factory=dict)
    """Names of recurrent modules that are still torch's, and why."""


_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def replace_recurrent(model: nn.Module) -> Replacement:
    """Swap every `nn.GRU` and `nn.LSTM` inside `model` for `MinGRU` and `MinLSTM`, in place, with fresh weights.

    Sizes, layers, directions, dropout, memory order, device, dtype, training mode and frozen weights stay; `MinLSTM`
    takes and returns pairs of states. A module that stands in several places stays one module. Optimizers made before
    hold the old weights: make them after.

    Args:
        model: any module. It cannot be an `nn.GRU` or `nn.LSTM` itself, which nothing holds.

    Returns:
        The names of what was replaced, and of what was not, each with the reason.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.LSTM(16, 32, bidirectional=True), "head": nn.Linear(64, 2)})
        >>> replace_recurrent(model)
        Replacement(replaced=['encoder'], kept={})
    """
    kept: dict[str, str] = {}
    places: dict[str, nn.GRU | nn.LSTM] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, _RECURRENT):
            continue
        if reason := _hindrance(name, module):
            kept[name] = reason
            continue
        assert isinstance(module, nn.GRU | nn.LSTM)
        places[name] = module
    fresh = {module: _equivalent(module) for module in dict.fromkeys(places.values())}  # before any change
    for name, module in places.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, fresh[module])
    return Replacement(list(places), kept)


def _hindrance(name: str, module: nn.Module) -> str | None:
    """Why a recurrent module has to stay; None where it can go."""
    if type(module) not in (nn.GRU, nn.LSTM):
        return f"{type(module).__name__} is not nn.GRU or nn.LSTM itself, and may do something else"
    if not name:
        return "the model is this module, and nothing holds it: write MinGRU( or MinLSTM( where it is made"
    if module.proj_size:
        return f"proj_size={module.proj_size}: no matrix reads the state here, so there is nothing to make smaller"
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    if any(hooks):
        return "it has hooks, which may rely on its weights: take them off, and put them on again afterwards"
    return None


def _equivalent(old: nn.GRU | nn.LSTM) -> MinGRU | MinLSTM:
    weight = next(old.parameters())
    # torch takes numbers of numpy, and 1 for True.
    layers, bidirectional = int(old.num_layers), bool(old.bidirectional)
    sizes = (int(old.input_size), int(old.hidden_size), layers, bool(old.bias), bool(old.batch_first))
    # With one layer torch accepts a dropout that does nothing, and has warned of it.
    dropout = float(old.dropout) if layers > 1 else 0.0
    place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    new: MinGRU | MinLSTM
    if isinstance(old, nn.LSTM):
        new = MinLSTM(*sizes, dropout, bidirectional, **place, pair=True)
    else:
        new = MinGRU(*sizes, dropout, bidirectional, **place)
    frozen = {name for name, p in old.named_parameters() if not p.requires_grad}
    for name, p in new.named_parameters():
        p.requires_grad_(name not in frozen)
    return new.train(old.training)
