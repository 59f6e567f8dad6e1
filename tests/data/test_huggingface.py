import sys

import pytest

from minrnn.data import load_text
from minrnn.errors import UserError


def test_without_the_library_it_names_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf:any needs the datasets library: pip install 'minrnn\[data\]'"):
        load_text("hf:any")


def test_no_name():
    with pytest.raises(UserError, match="'hf:' names no data set"):
        load_text("hf:")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`datasets` reads a folder of data files as it reads a data set on the hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.mark.parametrize("columns", ["label,body", "title,text"])
def test_rows_of_the_text_column_are_joined(folder, columns):
    (folder / "train.csv").write_text(f"{columns}\n1,hello there\n2,general kenobi\n")
    (folder / "test.csv").write_text(f"{columns}\n1,not this one\n")
    assert load_text(f"hf:{folder}").text == "hello there\ngeneral kenobi"


def test_a_data_set_without_text_names_its_columns(folder):
    (folder / "train.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match="has no text among its columns x, y"):
        load_text(f"hf:{folder}")


def test_a_data_set_that_is_not_there(folder):
    with pytest.raises(UserError, match=r"cannot load hf:.*/nothing \("):
        load_text(f"hf:{folder}/nothing")
