"""Classes of an upload's pictures: which folders are classes, and what a table of labels may look like."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.datasets import labels
from core.datasets.archives import Found, Spent, Unpacked
from core.datasets.ingest import Normalised, Upload, normalise_uploads
from core.datasets.label_table import MAX_TABLE_BYTES
from core.datasets.labels import MAX_CLASSES, class_name, counted
from core.errors import ArchiveRejected, DatasetUnusable, LabelsUnusable
from core.settings import settings
from tests.picture_files import png, pngs, tarred, zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Labelled = dict[str, str | None]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., tuple[Labelled, list[tuple[str, str]]]]:
    """What files of an archive are labelled as, by their names, and what was rejected: names and codes."""

    def judged(
        files: dict[str, bytes] | Sequence[str], *, source: Any = "auto", archive: str | None = "a.zip"
    ) -> tuple[Labelled, list[tuple[str, str]]]:
        contents = files if isinstance(files, dict) else dict.fromkeys(files, b"x")
        found = []
        for number, (name, data) in enumerate(contents.items()):
            (tmp_path / str(number)).write_bytes(data)
            found.append(Found.sent(name, tmp_path / str(number)))
        unpacked = labels.labelled(Unpacked(found), archive=archive, source=source, spent=Spent())
        return (
            {file.name: file.label for file in unpacked.found},
            [(rejection.name, rejection.code) for rejection in unpacked.rejected],
        )

    return judged


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cats/1.png", "dogs/2.png"], ["cats", "dogs"]),
        (["pets/cats/1.png", "pets/dogs/2.png"], ["cats", "dogs"]),
        (["pets/cats/1.png", "pets/dogs/2.png", "pets/readme.txt"], ["cats", "dogs", None]),
        (["cats/1.png", "dogs/2.png", "LICENSE"], ["cats", "dogs", None]),
        (["cats/1", "dogs/2"], ["cats", "dogs"]),
        (["cats/1.png"], [None]),
        (["1.png", "2.png"], [None, None]),
        (["cats/1.png", "dogs/2.png", "3.png"], [None, None, None]),
        (["train/1.png", "Test/2.png"], [None, None]),
        (["train/1.png", "cats/2.png"], ["train", "cats"]),
    ],
)
def test_when_folders_are_classes(names: list[str], classes: list[str | None], judge: Any) -> None:
    found, rejected = judge(names)
    assert list(found.values()) == classes
    assert rejected == []


@pytest.mark.parametrize(
    "names",
    [
        ["a/b/1.png"],
        ["a/cats/1.png", "b/dogs/2.png"],
        ["data/train/1.png", "data/test/2.png"],
        ["cats/1.png", "dogs/2.png", "dogs/more/3.png"],
        ["pets/cats/1.png", "pets/dogs/2.png", "pets/3.png"],
        ["cats/1.png", "dogs/2.png", "dogs/raw/notes.txt"],
    ],
)
def test_other_nested_folders_are_refused_as_before(names: list[str], judge: Any) -> None:
    with pytest.raises(ArchiveRejected) as raised:
        judge(names)
    assert raised.value.details["reason"] == "too_deep"
    assert raised.value.details["entry"] == next(name for name in names if name.count("/") == 2)


def test_folders_that_were_asked_for(judge: Any) -> None:
    assert judge(["cats/1.png"], source="folders")[0] == {"cats/1.png": "cats"}
    found, _ = judge(["pets/train/1.png", "pets/2.png"], source="folders")
    assert found == {"pets/train/1.png": "train", "pets/2.png": None}
    with pytest.raises(ArchiveRejected, match="nested folders"):
        judge(["train/cats/1.png", "test/cats/2.png"], source="folders")


def test_none_is_none(judge: Any) -> None:
    found, _ = judge({"cats/1.png": b"x", "dogs/2.png": b"x", "labels.csv": b"1.png,cats"}, source="none")
    assert found == {"cats/1.png": None, "dogs/2.png": None, "labels.csv": None}


def test_names_of_folders_that_are_no_names(judge: Any) -> None:
    names = {"c\x07ts": None, "x" * 300: None, " ": None, "do\u202egs": None, "  bad\u00a0 cats ": "bad cats"}
    found, rejected = judge([f"{name}/{number}.png" for number, name in enumerate(names)])
    assert list(found.values()) == list(names.values())
    assert sorted(code for _, code in rejected) == ["label_refused"] * 4
    assert ("c\N{REPLACEMENT CHARACTER}ts", "label_refused") in rejected


def test_folders_in_the_names_of_files_that_were_sent_by_themselves(judge: Any) -> None:
    assert judge(["cats/1.png", "dogs/2.png"], archive=None)[0] == {
        "cats/1.png": "cats",
        "dogs/2.png": "dogs",
    }
    found, rejected = judge(["../1.png", "x/2.png"], archive=None)
    assert list(found.values()) == [None, "x"]
    assert rejected == [("..", "label_refused")]
    assert judge(["a/b/c/d/1.png"], archive=None)[0] == {"a/b/c/d/1.png": None}


PICTURES = {"1.png": b"x", "sub/2.png": b"x", "sub/3 ü.png": b"x"}
WANTED = {"1.png": "cats", "sub/2.png": "dogs", "sub/3 ü.png": "cats"}


@pytest.mark.parametrize(
    "table",
    [
        "1.png,cats\nsub/2.png,dogs\nsub/3 ü.png,cats\n",
        "filename,label\r\n1.png,cats\r\nsub/2.png,dogs\r\nsub/3 ü.png,cats",
        "Image;Class;Note\n1.png;cats;x;y\n./sub//2.png;dogs\nsub\\3 ü.png;cats\n",
        "class\tid\tfile\ncats\t7\t1.png\ndogs\t8\t2.png\ncats\t9\t3 ü.png\n",
        '\n\n"1.png", "cats"\n"sub/2.png","dogs"\n\n"sub/3 u\u0308.png",cats\n',
        "file,breed\n1.png,cats\n2.png,dogs\n3 ü.png,cats\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_many_kinds(table: str, encoding: str, judge: Any) -> None:
    found, rejected = judge(PICTURES | {"Labels.CSV": table.encode(encoding)})
    assert found == WANTED
    assert rejected == []


def test_a_table_in_the_outer_folder(judge: Any) -> None:
    files = {"all/labels.csv": b"imgs/1.png,a\n2.png,b\n", "all/imgs/1.png": b"x", "all/imgs/2.png": b"x"}
    assert judge(files)[0] == {"all/imgs/1.png": "a", "all/imgs/2.png": "b"}


def test_a_table_goes_before_folders(judge: Any) -> None:
    files = {"a/1.png": b"x", "b/2.png": b"x", "labels.csv": b"1.png,x\n2.png,\n"}
    assert judge(files)[0] == {"a/1.png": "x", "b/2.png": None}
    assert judge(files, source="folders")[0] == {"a/1.png": "a", "b/2.png": "b", "labels.csv": None}


def test_each_bad_row_costs_that_row(judge: Any) -> None:
    rows = [
        "1.png,cats",
        "absent.png,cats",
        "../../1.png,cats",
        "/etc/passwd,cats",
        "twin.png,cats",
        "1.png,dogs",
        "2.png",
        "2.png,../../etc",
        "2.png,a\x00b",
        "2.png," + "x" * 201,
        "1.png,cats",
        "\x1b[2J.png,cats",
    ]
    files = {"1.png": b"x", "2.png": b"x", "a/twin.png": b"x", "b/twin.png": b"x"}
    found, rejected = judge(files | {"labels.csv": "\n".join(rows).encode()})
    assert found == {"1.png": "cats", "2.png": None, "a/twin.png": None, "b/twin.png": None}
    codes = ["unmatched"] * 3 + ["ambiguous"] * 2 + ["refused"] * 4 + ["unmatched"]
    lines = [*range(2, 11), 12]
    assert rejected == [
        (f"labels.csv, line {line}", f"label_{code}") for line, code in zip(lines, codes, strict=True)
    ]


def test_rows_that_label_nothing_are_listed_up_to_a_limit_for_an_upload(tmp_path: Path) -> None:
    many = list(pngs(5).items())
    table = b"9.png,a\n" * 700
    files = {f"{name}.zip": zipped({name: data, "labels.csv": table}) for name, data in many}
    made = normalised(tmp_path, files | {"notes.txt": b"x"})
    assert len(made.rejected) == 1_001
    assert (made.rejected[0].name, made.rejected[0].code) == ("notes.txt", "not_an_image")
    assert {rejection.code for rejection in made.rejected[1:-1]} == {"label_unmatched"}
    assert (made.rejected[-1].name, made.rejected[-1].code) == ("2501 more", "label_not_listed")


def test_later_tables_have_what_room_earlier_ones_left(tmp_path: Path) -> None:
    spent, listed = Spent(), []
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"9.png,a\n" * 700)
        found = [Found.sent("1.png", tmp_path / "x"), Found.sent("labels.csv", tmp_path / str(number))]
        unpacked = labels.labelled(Unpacked(found), archive="a.zip", source="csv", spent=spent)
        listed.append(len(unpacked.rejected))
    assert listed == [700, 300, 0]
    assert (spent.listed_rows, spent.unlisted_rows) == (1_000, 1_100)


def test_only_rows_that_label_nothing_do_not_count_as_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable) as raised:
        normalised(tmp_path, {"a.zip": zipped(pngs(2) | {"labels.csv": b"0000.png,a\n9.png,a\n"})})
    assert "rejected" not in raised.value.message
    assert [one["code"] for one in raised.value.details["rejected"]] == ["label_unmatched"]


MARKS = "a" + "\u0301\u0323" * 50_000


def test_long_runs_of_marks_are_not_composed(judge: Any) -> None:
    begun = time.process_time()
    found, rejected = judge(
        {"1.png": b"x", "labels.csv": f"{MARKS},cats\n1.png,{MARKS}\n".encode()},
    )
    judge([f"{MARKS}/1.png", f"b{MARKS}/2.png"], source="folders")
    judge({f"{MARKS}.png": b"x", "labels.csv": b"1.png,cats\n"}, archive=None)
    assert time.process_time() - begun < 1  # Composing one of them takes many seconds.
    assert found == {"1.png": None}
    assert [code for _, code in rejected] == ["label_unmatched", "label_refused"]


def test_a_table_beside_one_tree_or_several(judge: Any) -> None:
    rows = b"1.png,a\n2.png,b\n"
    one = {"all/cats/1.png": b"x", "all/dogs/2.png": b"x", "3.png": b"x", "labels.csv": rows}
    assert judge(one)[0] == {"all/cats/1.png": "a", "all/dogs/2.png": "b", "3.png": None}
    several = {"train/cats/1.png": b"x", "test/cats/2.png": b"x", "labels.csv": rows}
    for source in ("auto", "csv"):
        with pytest.raises(ArchiveRejected, match="another outer folder") as raised:
            judge(several, source=source)
        assert raised.value.details["entry"] == "test/cats/2.png"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (b"1.png,caf\xe9\n", r"no text in UTF-8 \(byte 9\)"),
        (b"\xff\xfe1\x00\x00", "no text in UTF-16, as it begins"),
        (b"1.png\n2.png\n", "one column"),
        (b"", "one column"),
        (b'1.png,"cats\n2.png,dogs\n', "cannot be read in line"),
        (b"1.png," + b"x" * 200_000, "field larger than field limit"),
        (b"1.png,cats\n" * (MAX_TABLE_BYTES // 11 + 1), "bytes; 4194304 are allowed"),
    ],
)
def test_what_is_no_table_is_refused_in_words(table: bytes, says: str, judge: Any) -> None:
    with pytest.raises(LabelsUnusable, match=says) as raised:
        judge({"1.png": b"x", "2.png": b"x", "labels.csv": table})
    assert raised.value.message.startswith("labels.csv ")


def test_two_tables_are_refused(judge: Any) -> None:
    with pytest.raises(LabelsUnusable, match=r"a\.zip holds 2 files labels\.csv"):
        judge({"1.png": b"x", "labels.csv": b"1.png,a", "b/labels.csv": b"1.png,b"})


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_no_table_fails_otherwise(table: bytes) -> None:

    with NamedTemporaryFile(delete=False) as file:
        file.write(table)
    found = [Found.sent("1.png", Path("unused")), Found.sent("labels.csv", Path(file.name))]
    try:
        made = labels.labelled(Unpacked(found), archive="a.zip", source="auto", spent=Spent())
    except LabelsUnusable:
        Path(file.name).unlink()
        return
    assert [one.name for one in made.found] == ["1.png"]


@given(st.text(max_size=250))
def test_a_class_s_name_is_stable_and_harmless(text: str) -> None:
    try:
        name = class_name(text)
    except ValueError:
        return
    assert class_name(name) == name
    assert not set(name) & set("/\\\0\n")
    assert 0 < len(name) <= 200


@pytest.mark.parametrize("text", ["\u200d", " \u200c \u200d", "", "\u00a0", "a\u202eb", "x" * 801])
def test_names_that_nobody_can_read_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        class_name(text)


def test_names_of_many_scripts_are_names() -> None:
    for name in ("кошки", "猫", "می‌خواهم", "👩‍💻", "a.b-c_d (1)"):
        assert class_name(f" {name}\t") == name


def normalised(folder: Path, files: dict[str, bytes], **values: Any) -> Normalised:
    uploads = []
    for number, (name, data) in enumerate(files.items()):
        (folder / f"{number}.upload").write_bytes(data)
        uploads.append(Upload(name, folder / f"{number}.upload"))
    return normalise_uploads(uploads, folder=folder, limits=settings(), **values)


def in_classes() -> dict[str, bytes]:
    return {f"{'cats' if at % 2 else 'dogs'}/{name}": data for at, (name, data) in enumerate(pngs(6).items())}


@pytest.mark.parametrize("pack", [zipped, tarred, lambda files: gzip.compress(tarred(files))])
@pytest.mark.parametrize("outer", ["", "pets/"])
def test_an_archive_of_classes(pack: Callable[[dict[str, bytes]], bytes], outer: str, tmp_path: Path) -> None:
    files = {f"{outer}{name}": data for name, data in in_classes().items()}
    made = normalised(tmp_path, {"a": pack(files)})
    assert [picture.label for picture in made.pictures] == ["dogs", "cats"] * 3
    assert counted(picture.label for picture in made.pictures) == [
        {"name": "cats", "images": 3}, {"name": "dogs", "images": 3},
    ]  # fmt: skip
    assert made.rejected == []


def test_each_archive_has_labels_of_its_own_and_files_keep_their_order(tmp_path: Path) -> None:
    many = list(pngs(12).values())
    files = {
        "first.png": many[0],
        "a.zip": zipped({"x/1.png": many[1], "y/1.png": many[2]}),
        "labels.csv": b"first.png,f\nlast.png,l\n1.png,z\n",
        "b.zip": zipped({"1.png": many[3], "labels.csv": b"1.png,t"}),
        "last.png": many[4],
    }
    made = normalised(tmp_path, files)
    assert [(picture.name, picture.label) for picture in made.pictures] == [
        ("first.png", "f"), ("x/1.png", "x"), ("y/1.png", "y"), ("1.png", "t"), ("last.png", "l"),
    ]  # fmt: skip
    assert [(rejection.name, rejection.code) for rejection in made.rejected] == [
        ("labels.csv, line 3", "label_unmatched")
    ]


def test_a_picture_of_two_classes_keeps_the_first(tmp_path: Path) -> None:
    files = in_classes() | {"mice/same.png": in_classes()["cats/0001.png"]}
    made = normalised(tmp_path, {"a.zip": zipped(files)})
    (rejection,) = made.rejected
    assert (rejection.name, rejection.code) == ("mice/same.png", "duplicate")
    assert rejection.reason.endswith("as 'cats/0001.png'. Its class stays 'cats'.")
    assert {picture.label for picture in made.pictures} == {"cats", "dogs"}


def test_a_picture_without_a_class_takes_that_of_an_equal_one(tmp_path: Path) -> None:
    many = pngs(4)
    same = many["0001.png"]
    packed = zipped({"one.png": same, "two.png": same, "labels.csv": b"one.png,cats\ntwo.png,dogs\n"})
    made = normalised(tmp_path, many | {"a.zip": packed})
    assert [(picture.name, picture.label) for picture in made.pictures] == [
        ("0000.png", None), ("0001.png", "cats"), ("0002.png", None), ("0003.png", None),
    ]  # fmt: skip
    first, second = made.rejected
    assert first.reason.endswith("as '0001.png'. Its class is 'cats' now.")
    assert second.reason.endswith("as '0001.png'. Its class stays 'cats'.")


def test_labels_that_were_asked_for_and_are_not_there(tmp_path: Path) -> None:
    for number, source in enumerate(("csv", "folders")):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(LabelsUnusable, match=r"No picture of .* has a label"):
            normalised(tmp_path / str(number), {"a.zip": zipped(pngs(5))}, label_source=source)


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    files = {f"{number}/1.png": b"" for number in range(MAX_CLASSES + 1)} | {"x/1.png": png()}
    with pytest.raises(LabelsUnusable, match="1002 classes; 1000 are allowed") as raised:
        normalised(tmp_path, {"a.zip": zipped(files)})
    assert raised.value.details == {"classes": 1002}


def test_without_labels_nested_folders_are_refused_at_once(tmp_path: Path) -> None:
    files = {f"pets/{name}": data for name, data in in_classes().items()}
    with pytest.raises(ArchiveRejected, match="nested folders"):
        normalised(tmp_path, {"a.zip": zipped(files)}, label_source="none")
