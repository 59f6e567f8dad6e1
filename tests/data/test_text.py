import pydoc_data.topics
import sys
from pathlib import Path

import pytest

from minrnn.data import Text, load_text
from minrnn.errors import UserError

TEXT = "Grüße aus der Höhle, 你好 und 🙂 dazu.\r\n"


def test_the_default_is_the_python_documentation_sorted_by_topic():
    topics = pydoc_data.topics.topics
    text = load_text()
    assert text.name == "python-docs"
    assert text.text == "\n".join(topics[topic] for topic in sorted(topics))


@pytest.mark.parametrize("length", [11, 19, 20, 21, 1001])
def test_a_text_is_cut_after_nine_tenths_of_its_characters(length):
    text = Text("test", "é" * (length - 1) + "x")
    assert len(text.train) == int(0.9 * length)
    assert text.train + text.held_out == text.text


def test_a_file_is_read_as_it_is(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    assert load_text(str(tmp_path / "a.txt")).text == TEXT


def test_a_folder_is_joined_by_newlines_in_order_without_hidden_files(tmp_path):
    for name in ("b/z.md", "b/a.txt", "a.txt", "c", ".hidden", ".git/config"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text of {name}")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    expected = "\n".join(f"text of {name}" for name in ("a.txt", "b/a.txt", "b/z.md", "c"))
    assert load_text(str(tmp_path)).text == expected


def test_files_that_are_no_text_are_passed_over_with_a_warning(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\0\0\0")
    with pytest.warns(UserWarning, match=r"1 file in .* passed over as no text: .*picture\.png first"):
        assert load_text(str(tmp_path)).text == TEXT


def test_for_bytes_every_file_is_taken(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, newline="")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    text = load_text(str(tmp_path), tokens="bytes").text
    assert text.encode("utf-8", "surrogateescape") == TEXT.encode() + b"\n" + bytes(range(256))


@pytest.mark.parametrize("inside_a_folder", [False, True])
def test_undecodable_bytes_are_named_with_file_and_offset(tmp_path, inside_a_folder):
    file = tmp_path / "latin.txt"
    file.write_bytes("Grüße aus der Höhle".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8 text: byte 2 is 0xfc; .*--tokens bytes"):
        load_text(str(tmp_path if inside_a_folder else file))


@pytest.mark.parametrize(("content", "number"), [("", "0"), ("a", "1"), ("a" * 10, "10")])
def test_too_little_text_is_refused(tmp_path, content, number):
    (tmp_path / "short.txt").write_text(content)
    with pytest.raises(UserError, match=rf"short\.txt has {number} characters; at least 11"):
        load_text(str(tmp_path / "short.txt"))


def test_the_shortest_text_leaves_two_held_out_characters(tmp_path):
    (tmp_path / "a.txt").write_text("hello world")
    assert load_text(str(tmp_path / "a.txt")).held_out == "ld"


@pytest.mark.parametrize("files", [{}, {"empty.txt": b""}, {"empty.txt": b"", "binary": b"\0\1"}, {".hidden": b"text"}])
def test_a_folder_without_text_is_refused(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"has no text files.*; give one that has"):
        load_text(str(tmp_path))


@pytest.mark.parametrize("source", ["shakespear", "Shakespeare"])
def test_a_misspelled_name_gets_a_suggestion(source):
    with pytest.raises(
        UserError, match=r"did you mean shakespeare\?.*python-docs, python-library, shakespeare and hf:NAME"
    ):
        load_text(source)


@pytest.mark.parametrize("source", ["", "no/such/file.txt", "a\0b"])
def test_a_source_that_is_not_there_is_named(source):
    with pytest.raises(UserError) as error:
        load_text(source)
    assert repr(source) in str(error.value) and "did you mean" not in str(error.value)


def test_what_the_system_refuses_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot read .*: File name too long$"):
        load_text("x" * 5000)


def test_a_python_without_its_documentation_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UserError, match=r"no pydoc_data\.topics.*give another text"):
        load_text("python-docs")


def test_every_error_is_one_line(tmp_path):
    for source in ("", "nothing\nhere", str(tmp_path), "hf:"):
        with pytest.raises(UserError) as error:
            load_text(source)
        assert "\n" not in str(error.value)


def test_a_name_wins_over_a_file_unless_written_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("python-docs").write_text("a file of that name")
    assert len(load_text("python-docs").text) > 100_000
    assert load_text("./python-docs").text == "a file of that name"
