"""The command line: `minrnn COMMAND ...`, the same as `python -m minrnn COMMAND ...`.

Each command is a module with `main(arguments) -> exit code`, imported only when it is asked for.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from minrnn.errors import UserError

COMMANDS = {
    "train": ("train a language model on text", "minrnn train --data shakespeare --out runs/s --minutes 15"),
    "generate": ("write text with a trained model", 'minrnn generate runs/s --prompt "ROMEO:" --tokens 500'),
    "evaluate": ("measure it on held-out text", "minrnn evaluate runs/s"),
    "score": ("say how likely a text is to it", 'minrnn score runs/s --text "To be, or not to be"'),
    "predict": ("answer for time series of a file", "minrnn predict runs/g --data new.csv --out answers.csv"),
    "stream": ("answer each line of stdin at once", "tail -f load.log | minrnn stream runs/load"),
    "inspect": ("look inside a model", "minrnn inspect runs/s --out s.html"),
    "export": ("write it for places without torch", "minrnn export runs/s --format onnx --out s-onnx"),
    "bench": ("time layers side by side", "minrnn bench layers"),
    "reproduce": ("settle a claim of the paper", "minrnn reproduce selective-copy --scale smoke"),
    "demo": ("all of it in two minutes", "minrnn demo"),
}
"""What each does, and an example."""

OF_TRAIN = ("tyro", "rich", "safetensors", "tokenizers", "matplotlib")
"""What comes with the extra of that name."""

USAGE = """usage: minrnn COMMAND [OPTIONS]

Minimal recurrent networks at the speed of matrix multiplication.

{}

train, evaluate and predict take time series too: minrnn train --task classify --data gestures.csv --out runs/g
minrnn COMMAND --help explains a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for input that a person can mend, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    usage = USAGE.format(
        "\n".join(f"  {name:<9} {what + ':':<35}{example}" for name, (what, example) in COMMANDS.items())
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a text may have what the terminal has not
    try:
        if not words or words[0] in ("-h", "--help"):
            print(usage, flush=True)
            return 0 if words else 2
        if words[0] not in COMMANDS:
            raise UserError(f"there is no command {words[0]!r}; the commands are {', '.join(COMMANDS)}")
        command = importlib.import_module(f"minrnn.commands.{words[0]}")
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code: int = command.main(words[1:])
        sys.stdout.flush()
    except UserError as error:
        if speaks():
            print(f"minrnn {words[0]}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in OF_TRAIN:
            raise
        print(f"minrnn {words[0]}: it needs {error.name}: pip install 'minrnn[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has seen enough, as in `minrnn generate ... | head`
        _give_up_stdout()
        return 0
    except OSError as error:  # of a name that is too long, a folder that may not be read, a full disk behind stdout
        if error.filename is not None:
            place = f"use {error.filename}"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            _give_up_stdout()
            place = "read or write"
        else:
            raise
        if speaks():
            print(f"{' '.join(['minrnn', *words[:1]])}: cannot {place}: {error.strerror}", file=sys.stderr)
        return 2
    return code


def speaks() -> bool:
    """Whether this is the process, of those that torchrun started, that talks to the person."""
    return os.environ.get("RANK", "0") == "0"


def _give_up_stdout() -> None:
    """What is left in its buffer goes nowhere, instead of into another error at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn(message: Warning | str, *where: object, **more: object) -> None:
    """A warning as a person wants it: one line, without the place in the code."""
    print(f"minrnn: {' '.join(str(message).split())}", file=sys.stderr)
