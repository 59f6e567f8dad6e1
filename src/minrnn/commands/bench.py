"""minrnn bench"""

from __future__ import annotations

from collections.abc import Sequence

from minrnn.errors import UserError

USAGE = """usage: minrnn bench {layers,model} [OPTIONS]

  layers   one layer, forward + backward, beside nn.GRU, nn.LSTM, a GRUCell loop and the matrix products alone
  model    a training step of a language model beside its matrix products alone, and generation

minrnn bench layers --help and minrnn bench model --help explain them."""


def main(arguments: Sequence[str]) -> int:
    """Hand over to the benchmark named first."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] == "layers":
        from ._bench_layers import main as bench
    elif arguments[0] == "model":
        from ._bench_model import main as bench
    else:
        raise UserError(f"there is no benchmark {arguments[0]!r}; there are layers and model")
    return bench(arguments[1:])
