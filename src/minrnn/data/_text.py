"""Text by name, file or folder, cut into a part to learn from and a part to be judged on."""

from __future__ import annotations

import difflib
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minrnn.errors import UserError

from ._huggingface import PREFIX, load_huggingface
from ._shakespeare import load_shakespeare

NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "__pycache__", "config"}

SHORTEST = 11  # characters: the least that leaves two in the held-out tenth, one to read and one to predict


@dataclass(frozen=True)
class Text:
    """A text and the name that it was asked for by.

    Both parts are cut by position, so every tokenizer is judged on the same characters; `len(text.held_out)` is what
    bits per character divide by, whatever the tokens are.
    """

    name: str
    text: str

    @property
    def _cut(self) -> int:
        return int(0.9 * len(self.text))

    @property
    def train(self) -> str:
        """The first 90 % of the characters."""
        return self.text[: self._cut]

    @property
    def held_out(self) -> str:
        """The last 10 % of the characters."""
        return self.text[self._cut :]


def load_text(source: str = "python-docs", *, tokens: str = "characters") -> Text:
    """Read a text.

    Arguments:
        source: `python-docs`, the language reference that every CPython carries; `python-library`, the source files of
            its library without tests, 11 million characters; `shakespeare`, tiny Shakespeare;
            `hf:NAME` or `hf:NAME:CONFIG`, a Hugging Face data set; else a text file, or a folder of text files, which
            are joined by newlines, sorted by folder and name. Write `./shakespeare` for a file of that name.
        tokens: what the text is for, as `build_tokenizer` takes it. For "bytes", files need not be UTF-8: a byte that
            is not becomes one character (a surrogate, PEP 383), which the byte tokenizer turns back into the byte.

    In a folder, hidden files are passed over, and so are files with a zero byte, which are no text (git's rule); a
    warning says how many. For "bytes" nothing but hidden files is passed over.

    Example: `load_text("shakespeare").train[:14]` is `"First Citizen:"`

    Raises UserError, naming the mend, for a source that is not there, bytes that are no UTF-8, and too little text.
    """
    try:
        text = NAMED[source]() if source in NAMED else _load_other(source, as_bytes=tokens == "bytes")
    except OSError as error:
        raise UserError(f"cannot read {error.filename or source}: {error.strerror or error}") from error
    if len(text) < SHORTEST:
        raise UserError(
            f"{source} has {len(text)} characters; at least {SHORTEST} are needed to learn from and to hold out"
        )
    return Text(source, text)


def _load_other(source: str, as_bytes: bool) -> str:
    if source.startswith(PREFIX):
        return load_huggingface(source)
    path = Path(source)
    if not source or not path.exists():
        raise UserError(_not_found(source))
    return _read_folder(path, as_bytes) if path.is_dir() else _decode(path, path.read_bytes(), as_bytes)


def _read_folder(folder: Path, as_bytes: bool) -> str:
    texts, passed_over = [], []
    for path in _files(folder):
        content = path.read_bytes()
        if b"\0" in content and not as_bytes:
            passed_over.append(path)
        else:
            texts.append(_decode(path, content, as_bytes))
    if not any(texts):
        others = f", only {len(passed_over)} of other kinds" if passed_over else ""
        raise UserError(f"the folder {folder} has no text files{others}; give one that has")
    if passed_over:
        number = f"{len(passed_over)} file{'s' * (len(passed_over) > 1)}"
        warnings.warn(f"{number} in {folder} passed over as no text: {passed_over[0]} first", stacklevel=4)
    return "\n".join(texts)


def _files(folder: Path) -> Iterator[Path]:
    """All files that are not hidden, by folder and name. Links to folders may lead in circles and are not followed."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file():
            yield path


def _decode(path: Path, content: bytes, as_bytes: bool) -> str:
    try:
        return content.decode("utf-8", "surrogateescape" if as_bytes else "strict")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}; "
            "convert it to UTF-8, leave it out, or learn bytes (--tokens bytes)"
        ) from error


def _not_found(source: str) -> str:
    near = difflib.get_close_matches(source.lower(), NAMED, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"{source!r} is no file, folder or known text{meant}; known are {', '.join(NAMED)} and {PREFIX}NAME"


def _load_python_docs() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python has no pydoc_data.topics, which python-docs is; give another text") from error
    return "\n".join(topics[topic] for topic in sorted(topics))


def _load_python_library() -> str:
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path for path in _files(root) if path.suffix == ".py" and not NOT_LIBRARY & set(path.relative_to(root).parts)
    ]
    if not files:
        raise UserError(f"this Python has no source files in {root}, which python-library is; give another text")
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


NAMED: dict[str, Callable[[], str]] = {
    "python-docs": _load_python_docs,
    "python-library": _load_python_library,
    "shakespeare": load_shakespeare,
}
