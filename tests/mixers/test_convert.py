"""What converters say of weights that they cannot take; what they give is checked against the peers in tests/peers."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.mixers import convert

D, E, N, R = 4, 8, 3, 1
MAMBA: dict[str, Tensor] = {
    "A_log": torch.randn(E, N),
    "in_proj.weight": torch.randn(2 * E, D),
    "conv1d.weight": torch.randn(E, 1, 2),
    "conv1d.bias": torch.randn(E),
    "x_proj.weight": torch.randn(R + 2 * N, E),
    "dt_proj.weight": torch.randn(E, R),
    "dt_proj.bias": torch.randn(E),
    "D": torch.randn(E),
    "out_proj.weight": torch.randn(D, E),
}


def test_a_layer_of_a_checkpoint_is_found_by_its_prefix() -> None:
    checkpoint = {f"layers.{n}.{name}": value + n for n in range(2) for name, value in MAMBA.items()}
    mixer = convert.mamba(checkpoint, prefix="layers.1.")
    assert torch.equal(mixer.down.weight, MAMBA["out_proj.weight"] + 1)
    mixer.down.weight.data.zero_()
    assert torch.equal(checkpoint["layers.1.out_proj.weight"], MAMBA["out_proj.weight"] + 1)  # a copy
    assert convert.mamba({name: value.double() for name, value in MAMBA.items()}).down.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "prefix", "message"),
    [
        ({}, "layers.2.", "no name begins with prefix 'layers.2.'; there are A_log, D, "),
        ({"D": None}, "", "there is no D; left are out_proj.weight"),
        ({"dt_proj.bias": torch.randn(E + 1)}, "", "dt_proj.bias has shape (9,); expected (8,)"),
        ({"conv1d.weight": torch.randn(E, 2)}, "", "conv1d.weight has shape (8, 2); expected (8, 1, 'any')"),
        ({"in_proj.bias": torch.randn(2 * E)}, "", "MambaMixer has no counterpart of in_proj.bias"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], prefix: str, message: str) -> None:
    weights = {name: value for name, value in (MAMBA | change).items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(message)):
        convert.mamba(weights, prefix=prefix)
