"""Sequence mixers by name, all under one contract (see `Mixer`): `build("mingru", width=256)`."""

from __future__ import annotations

import difflib
import inspect
from types import UnionType
from typing import Any, get_args, get_type_hints

from ._attention import AttentionMixer
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay
from ._deltanet import GatedDeltaNetMixer
from ._gilr_lstm import GILRLSTMMixer
from ._hgrn import HGRNMixer
from ._mamba import MambaMixer
from ._minimal import (
    GILRMixer,
    MinGRUMixer,
    MinimalCell,
    MinLSTMMixer,
    SignedMixer,
    check_activation,
    expanded,
    raise_forget_bias,
    unit_variance,
)
from ._mlstm import MLSTMMixer
from ._nonlinear import NonlinearMixer
from ._qrnn import QRNNMixer
from ._rglru import RGLRUMixer
from ._rwkv4 import RWKV4Mixer
from ._s4d import S4DMixer
from ._slstm import SLSTMMixer
from ._sru import SRUMixer
from ._srupp import SRUppMixer
from ._torch import GRUMixer, LSTMMixer

__all__ = [
    "AttentionMixer",
    "GILRLSTMMixer",
    "GILRMixer",
    "GRUMixer",
    "GatedDeltaNetMixer",
    "HGRNMixer",
    "LSTMMixer",
    "MLSTMMixer",
    "MambaMixer",
    "MinGRUMixer",
    "MinLSTMMixer",
    "MinimalCell",
    "Mixer",
    "NonlinearMixer",
    "QRNNMixer",
    "RGLRUMixer",
    "RWKV4Mixer",
    "RecurrentState",
    "S4DMixer",
    "SLSTMMixer",
    "SRUMixer",
    "SRUppMixer",
    "SignedMixer",
    "build",
    "check_activation",
    "check_sequence",
    "check_state",
    "exempt_from_weight_decay",
    "expanded",
    "name_of",
    "names",
    "options",
    "raise_forget_bias",
    "unit_variance",
]

_REGISTRY: dict[str, type[Mixer]] = {
    "mingru": MinGRUMixer,
    "minlstm": MinLSTMMixer,
    "gru": GRUMixer,
    "lstm": LSTMMixer,
    "qrnn": QRNNMixer,
    "sru": SRUMixer,
    "srupp": SRUppMixer,
    "gilr": GILRMixer,
    "gilr_lstm": GILRLSTMMixer,
    "rglru": RGLRUMixer,
    "hgrn": HGRNMixer,
    "rwkv4": RWKV4Mixer,
    "signed": SignedMixer,
    "s4d": S4DMixer,
    "mamba": MambaMixer,
    "slstm": SLSTMMixer,
    "mlstm": MLSTMMixer,
    "deltanet": GatedDeltaNetMixer,
    "nonlinear": NonlinearMixer,
    "attention": AttentionMixer,
}


def names() -> list[str]:
    """All names that `build` takes."""
    return list(_REGISTRY)


def name_of(mixer: Mixer) -> str:
    """The name that `build` knows this kind of mixer by."""
    return next(name for name, kind in _REGISTRY.items() if type(mixer) is kind)


def options(name: str) -> dict[str, Any]:
    """The options of a mixer and their defaults, without `layer` and `num_layers`."""
    parameters = inspect.signature(_find(name)).parameters
    return {key: p.default for key, p in parameters.items() if key not in ("width", "layer", "num_layers")}


def build(name: str, *, width: int, layer: int = 0, num_layers: int = 1, **chosen: Any) -> Mixer:
    """The mixer called `name`, of model width D = `width`.

    Args:
        layer, num_layers: position in a stack, for mixers whose initialisation depends on depth.
        chosen: options of the mixer; see its class.

    Raises:
        ValueError: no such mixer or option, the message lists what there is; or a value that the option cannot take,
            or a width below 1.

    Example:
        >>> y, state = build("mingru", width=64, expansion=2)(torch.randn(8, 100, 64))
    """
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width is {width!r}; expected an int of 1 or more")
    mixer = _find(name)
    allowed, kinds = options(name), get_type_hints(mixer.__init__)
    for key, value in chosen.items():
        if key not in allowed:
            raise ValueError(f"mixer {name!r} has no option {key!r}{_near(key, allowed)}; it has {', '.join(allowed)}")
        if not _fits(value, kinds[key]):
            raise ValueError(f"option {key} of mixer {name!r} is {value!r}; expected {_described(kinds[key])}")
    if "layer" in inspect.signature(mixer).parameters:
        chosen |= {"layer": layer, "num_layers": num_layers}
    return mixer(width, **chosen)


def _find(name: str) -> type[Mixer]:
    if name not in _REGISTRY:
        raise ValueError(f"there is no mixer {name!r}{_near(name, _REGISTRY)}; there are {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def _fits(value: object, kind: Any) -> bool:
    """Whether an option may have this value; an int serves as a float, but no bool serves as a number."""
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _described(kind: Any) -> str:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return " or ".join("none" if one is type(None) else one.__name__ for one in kinds)


def _near(word: str, words: Any) -> str:
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
