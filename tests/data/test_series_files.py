"""Series come out of files as they are meant, and what is wrong in a file is said in one line that names it."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from minrnn.data._series import Layout, load_labelled, load_observed
from minrnn.errors import UserError

LONG = """id,at,x,y,kind
a,2,3,30,hot
b,1,7,,cold
a,1,1,10,hot
b,3,9,90,cold
b,2,8,80,cold
"""
WIDE = """label,0,1,2
hot,1,2,3
cold,4,5,
hot,,6,7
"""
POWER = """when,load,holiday
2024-01-01 00:00,5,0
2024-01-01 01:00,6,0
2024-01-01 02:00,,1
2024-01-01 03:00,8,0
2024-01-01 04:00,,1
"""


def file(folder: Path, text: str, name: str = "data.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_step_in_each_row(tmp_path: Path) -> None:
    found = load_labelled(file(tmp_path, LONG), Layout(target="kind", series="id", time="at"), "classes")
    assert found.names == ["a", "b"] and found.channels == ["x", "y"]
    np.testing.assert_array_equal(found.series[0], [[1, 3], [10, 30]])
    np.testing.assert_array_equal(found.series[1], [[7, 8, 9], [np.nan, 80, 90]])
    assert found.y is not None and found.y.tolist() == ["hot", "cold"]
    assert str(found) == "2 series of 2 channels (x, y), 2 to 3 steps, 10.0% of values missing"
    turned = Layout(target="kind", series="id", time="at", channels=("y", "x"))
    np.testing.assert_array_equal(load_labelled(file(tmp_path, LONG), turned, "classes").series[0], [[10, 30], [1, 3]])


def test_a_series_in_each_row(tmp_path: Path) -> None:
    found = load_labelled(file(tmp_path, WIDE), Layout(), "classes")
    for one, expected in zip(found.series, ([1, 2, 3], [4, 5], [np.nan, 6, 7]), strict=True):
        np.testing.assert_array_equal(one, [expected])
    assert found.y is not None and found.y.tolist() == ["hot", "cold", "hot"]
    pd.read_csv(tmp_path / "data.csv").to_parquet(tmp_path / "data.parquet")
    again = load_labelled(str(tmp_path / "data.parquet"), Layout(), "classes")
    np.testing.assert_array_equal(again.series[2], found.series[2])
    without = load_labelled(file(tmp_path, WIDE), Layout(ignore=("label",)), "classes")
    assert without.y is None and without.series[0].shape == (1, 3)


def test_arrays_and_ts(tmp_path: Path) -> None:
    X, y = np.arange(12.0).reshape(2, 2, 3), np.array([1.5, 2.5])
    np.savez(tmp_path / "data.npz", X=X, y=y)
    found = load_labelled(str(tmp_path / "data.npz"), Layout(), "numbers")
    np.testing.assert_array_equal(found.series, X)
    np.testing.assert_array_equal(found.y, y)  # type: ignore[arg-type]
    text = "@problemName p\n@timeStamps false\n@univariate true\n@equalLength false\n@classLabel true a b\n@data\n"
    found = load_labelled(file(tmp_path, text + "1,2,3:a\n4,5:b\n", "data.ts"), Layout(), "classes")
    np.testing.assert_array_equal(found.series[1], [[4, 5]])
    assert found.y is not None and found.y.tolist() == ["a", "b"]


@pytest.mark.parametrize("labels", ["", "?", "hot", None])
def test_labels_that_are_not_wanted_are_not_looked_at(tmp_path: Path, labels: str | None) -> None:
    table = pd.read_csv(file(tmp_path, LONG)).drop(columns="kind")  # the channel y is called like labels
    if labels is not None:
        table["kind"] = labels
    table.to_csv(tmp_path / "new.csv", index=False)
    layout = Layout(target="kind", labelled=False, series="id", time="at")
    found = load_labelled(str(tmp_path / "new.csv"), layout, "numbers")
    assert found.channels == ["x", "y"] and found.y is None
    old = Layout(labelled=False, series="id", time="at", channels=("x", "y"))  # a run that noted no target
    np.testing.assert_array_equal(load_labelled(str(tmp_path / "new.csv"), old, "numbers").series[0], found.series[0])


@pytest.mark.parametrize("labels", ["", "?"])
def test_labels_that_are_not_wanted_beside_a_series_in_each_row(tmp_path: Path, labels: str) -> None:
    path = file(tmp_path, WIDE.replace("hot", labels).replace("cold", labels))
    for layout in (Layout(target="label", labelled=False), Layout(labelled=False)):
        found = load_labelled(path, layout, "numbers")
        assert found.y is None and found.series[0].shape == (1, 3)
    np.savez(tmp_path / "data.npz", X=np.zeros((2, 1, 3)), y=np.array(["a", None], dtype=object))
    assert load_labelled(str(tmp_path / "data.npz"), Layout(labelled=False), "classes").y is None


def test_the_column_of_labels_that_was_found(tmp_path: Path) -> None:
    assert load_labelled(file(tmp_path, WIDE), Layout(), "classes").target == "label"
    text = LONG.replace("kind", "Class")
    assert load_labelled(file(tmp_path, text), Layout(series="id", channels=("y",)), "classes").target == "Class"


def test_the_newest_row_first(tmp_path: Path) -> None:
    expected = load_observed(file(tmp_path, POWER), Layout(known=("holiday",)))
    head, *rows = POWER.splitlines()
    for time in ("", "when"):
        found = load_observed(file(tmp_path, "\n".join([head, *rows[::-1]])), Layout(known=("holiday",), time=time))
        np.testing.assert_array_equal(found.series[0], expected.series[0])
        np.testing.assert_array_equal(found.known[0], expected.known[0])  # type: ignore[index]
        assert found.clocks == expected.clocks
    text = "\n".join(f"{shop},{day},{day + 10 * shop}" for day in (3, 1, 2) for shop in (2, 1))
    both = load_observed(file(tmp_path, "shop,day,v\n" + text), Layout(series="shop", time="day"))
    assert both.names == ["2", "1"] and both.series[0].tolist() == [[21, 22, 23]]
    assert [clock.after(1) for clock in both.clocks] == [[4], [4]]


def test_what_is_known_in_advance_reaches_beyond_the_end(tmp_path: Path) -> None:
    found = load_observed(file(tmp_path, POWER), Layout(known=("holiday",)))
    assert found.channels == ["load"] and found.known is not None
    np.testing.assert_array_equal(found.series[0], [[5, 6, np.nan, 8]])
    np.testing.assert_array_equal(found.known[0], [[0, 0, 1, 0, 1]])
    assert [str(one) for one in found.clocks[0].after(2)] == ["2024-01-01 04:00:00", "2024-01-01 05:00:00"]
    assert str(found).endswith("1 hour apart; known in advance: holiday")


@pytest.mark.parametrize(
    ("days", "after"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], "2024-05-31"),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "2024-01-22"),
    ],
)
def test_calendars(tmp_path: Path, days: list[str], after: str) -> None:
    rows = "".join(f"{day},{number}\n" for number, day in enumerate(days))
    found = load_observed(file(tmp_path, "day,v\n" + rows), Layout())
    assert str(found.clocks[0].after(1)[0]).startswith(after)


@pytest.mark.parametrize(
    ("text", "layout", "words"),
    [
        ("", Layout(), "is empty"),
        ("label,0,1\n", Layout(), "column names and no rows"),
        (WIDE + "label,0,1,2\nhot,1,2,3\n", Layout(), "line 5 of .* is the header once more"),
        ("1.5,2.5,3.5\n4,5,6\n", Layout(), "first line of .* holds numbers"),
        (WIDE.replace("5", "five"), Layout(), "column 1 of .* has 'five' in row 2"),
        (WIDE, Layout(target="mood"), "--target mood is no column of .*; the columns are label, 0, 1, 2"),
        (WIDE.replace("cold", ""), Layout(), "no label in row 2"),
        (LONG.replace("cold", ""), Layout(target="kind", series="id"), "no label in row 2"),
        (LONG.replace("80", "?"), Layout(target="kind", series="id", time="at"), r"column y of .* has '\?' in row 5"),
        (LONG.replace("a,1", "a,"), Layout(target="kind", series="id", time="at"), "column at of .* no time in row 3"),
        (LONG, Layout(target="x", series="id", channels=("y",)), "series a .* labels 3 and 1; expected one"),
        (LONG, Layout(target="kind", series="name"), "--series name is no column"),
        (LONG.replace("b,2,8,80,cold", "b,2,8,80,hot"), Layout(target="kind", series="id"), "series b .* 'cold' and"),
        (LONG, Layout(target="kind", series="id", channels=("x", "z")), "the channel z is no column"),
        ("a,b\n1,2\n1,2,3,4\n", Layout(), "no CSV table: .*line 3"),
        ("label,0,1\nhot,1,2,\ncold,3,4,\n", Layout(), "more values than its first line has names; .* end no row"),
        (",0,1,label\n7,1,2,hot\n8,3,4,cold\n", Layout(), "a column without a name \\('Unnamed: 0'\\).*--ignore"),
        (",Unnamed: 0,label\n7,1,hot\n8,3,cold\n", Layout(), "a column without a name"),
        ("a,a ,label\n1,2,hot\n", Layout(), "two columns 'a'"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, layout: Layout, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_labelled(file(tmp_path, text), layout, "classes")
    assert "\n" not in str(caught.value)


def test_columns_without_a_name(tmp_path: Path) -> None:
    """Empty ones end each line of some programs; one with the numbers of the rows comes from pandas."""
    found = load_labelled(file(tmp_path, "label,0,1,\nhot,1,2,\ncold,3,4,\n"), Layout(), "classes")
    np.testing.assert_array_equal(found.series, [[[1, 2]], [[3, 4]]])
    frame = pd.DataFrame({"0": [1.0, 3.0], "label": ["hot", "cold"]}, index=[7, 8])
    text = frame.to_csv()
    left_out = load_labelled(file(tmp_path, text), Layout(ignore=("Unnamed: 0",)), "classes")
    np.testing.assert_array_equal(left_out.series, [[[1]], [[3]]])
    dates = pd.DataFrame({"v": [1.0, 2, 3]}, index=pd.date_range("2024-01-01", periods=3)).to_csv()
    assert load_observed(file(tmp_path, dates), Layout()).clocks[0].every == "1 day"


def test_the_index_of_a_parquet_file(tmp_path: Path) -> None:
    days = pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-09"], name="day")
    path = tmp_path / "v.parquet"
    pd.DataFrame({"v": [1.0, 2, 3]}, index=days).to_parquet(path)
    with pytest.raises(UserError, match="mostly 1 day apart, but 7 days between"):
        load_observed(str(path), Layout(time="day"))
    pd.DataFrame({"v": [1.0, 2, 3]}, index=days.rename(None)).to_parquet(path)
    with pytest.raises(UserError, match="mostly 1 day apart, but 7 days between"):
        load_observed(str(path), Layout())
    counted = pd.DataFrame({"v": [1.0, 2, 3]}, index=[7, 8, 9])
    both = counted.assign(id=[7, 8, 9]).set_index("id", drop=False)
    for frame, channels in ((counted, ["v"]), (both, ["v", "id"]), (counted.set_index("v", append=True), ["v"])):
        frame.to_parquet(path)
        assert load_observed(str(path), Layout()).channels == channels


def test_decimal_times(tmp_path: Path) -> None:
    """0.3 - 0.2 is not 0.1 in binary."""
    times = [f"{0.1 * step:.1f}" for step in range(600)]
    found = load_observed(file(tmp_path, "t,v\n" + "".join(f"{t},1\n" for t in times)), Layout(time="t"))
    assert found.clocks[0].after(2) == pytest.approx([60.0, 60.1])
    times.remove("7.0")
    with pytest.raises(UserError, match=r"mostly 0.1 apart, but 0.2 between 6.9 and 7.1"):
        load_observed(file(tmp_path, "t,v\n" + "".join(f"{t},1\n" for t in times)), Layout(time="t"))


def test_a_channel_y_beside_labels(tmp_path: Path) -> None:
    text = "id,x,y,z,label\na,1,2,3,walk\na,4,5,6,walk\nb,1,2,3,run\n"
    found = load_labelled(file(tmp_path, text), Layout(series="id"), "classes")
    assert (found.target, found.channels) == ("label", ["x", "y", "z"])


def test_bad_files(tmp_path: Path) -> None:
    def refused(name: str, words: str, content: bytes | None = None, kind: str = "classes") -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            load_labelled(str(tmp_path / name), Layout(), kind)
        assert "\n" not in str(caught.value)

    refused("none.csv", "there is no file")
    refused("data.doc", "expected .csv, .tsv", b"text")
    refused("cut.npz", "no .npz file", b"PK\x03\x04cut")
    refused("cut.csv.gz", "no CSV table: .*ended before", gzip.compress(WIDE.encode())[:-12])
    refused("spoilt.csv.gz", "no CSV table", gzip.compress(b"")[:10] + 30 * b"\xff")
    refused("cut.parquet", "no PARQUET table", b"PAR1cut")
    refused("bytes.csv", "no CSV table", b"\xff\xfe\x00a,b\n")
    refused("cut.ts", "no .ts file|has no series", b"1,2,3:a\n")
    refused("words.csv", "no numbers: .*--task classify", WIDE.encode(), kind="numbers")
    np.save(tmp_path / "data.npy", np.zeros((3, 4)))
    refused("plain.npz", "no .npz file", (tmp_path / "data.npy").read_bytes())
    np.savez_compressed(tmp_path / "whole.npz", X=np.random.default_rng(0).normal(size=(3, 4)))
    whole = (tmp_path / "whole.npz").read_bytes()
    refused("spoilt.npz", "no .npz file", whole[:80] + bytes(60) + whole[140:])
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as archive:
        archive.writestr("X.npy", (tmp_path / "data.npy").read_bytes().replace(b"}", b" "))
    refused("header.npz", "no .npz file")
    np.savez(tmp_path / "objects.npz", X=np.array([[1, None]], dtype=object))
    refused("objects.npz", "plain arrays")
    np.savez(tmp_path / "short.npz", X=np.zeros((3, 4)), y=np.zeros(2))
    refused("short.npz", r"y in .* has shape \(2,\); expected \(3,\)")
    np.savez(tmp_path / "other.npz", Z=np.zeros((3, 4)))
    refused("other.npz", "has the arrays Z; expected X and y")


def test_times_that_are_not_equally_far_apart(tmp_path: Path) -> None:
    gap = POWER.replace("2024-01-01 03:00", "2024-01-01 03:30")
    with pytest.raises(UserError, match=r"mostly 1 hour apart, but 90 minutes between 2024-01-01 02:00:00 and"):
        load_observed(file(tmp_path, gap), Layout())
    twice = POWER.replace("2024-01-01 03:00", "2024-01-01 02:00")
    with pytest.raises(UserError, match=r"but .* between 2024-01-01 02:00:00 and 2024-01-01 02:00:00"):
        load_observed(file(tmp_path, twice), Layout())
    with pytest.raises(UserError, match="holds no dates"):
        load_observed(file(tmp_path, POWER.replace("2024-01-01 00:00", "noon")), Layout())


def test_times_that_are_not_in_the_first_column(tmp_path: Path) -> None:
    pd.DataFrame({"v": [1.0, 2, 3], "when": pd.date_range("2024-01-01", periods=3)}).to_parquet(tmp_path / "v.parquet")
    path = str(tmp_path / "v.parquet")
    with pytest.raises(UserError, match=r"column when of .* holds times, no numbers; .*--time.*--ignore when"):
        load_observed(path, Layout())
    assert load_observed(path, Layout(time="when")).channels == ["v"]


def test_a_row_without_a_time(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column when of .* has no time in row 3; fill it in, or leave the row out"):
        load_observed(file(tmp_path, POWER.replace("2024-01-01 02:00", "")), Layout())
