"""minrnn bench"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from minrnn.errors import UserError

BENCHMARKS = {
    "layers": "one layer, forward + backward, beside nn.GRU, nn.LSTM, a GRUCell loop and the matrix products alone",
    "mixers": "every mixer beside its projections alone, against the length, and one step at a time",
    "calls": "packed input, two directions, single steps and long sequences, each beside the plain call",
    "series": "classification and forecasting on real series, beside naive, nearest-neighbour and ROCKET baselines",
    "stream": "one value at a time: answers a second, the 99th percentile of their time, and whether it grows",
    "model": "a training step of a language model beside its matrix products alone, and generation",
}

USAGE = """usage: minrnn bench {{{}}} [OPTIONS]

{}

minrnn bench layers --help, and so on, explain them."""


def main(arguments: Sequence[str]) -> int:
    """Hand over to the benchmark named first."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(",".join(BENCHMARKS), "\n".join(f"  {name:<8} {text}" for name, text in BENCHMARKS.items())))
        return 0 if arguments else 2
    if arguments[0] not in BENCHMARKS:
        raise UserError(f"there is no benchmark {arguments[0]!r}; there are {', '.join(BENCHMARKS)}")
    bench = importlib.import_module(f"minrnn.commands._bench_{arguments[0]}")
    code: int = bench.main(arguments[1:])
    return code
