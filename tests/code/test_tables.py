"""Tables as people and spreadsheets write them, and names in either of their Unicode normal forms."""

import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from dataset_factory import blob, make, picture, problem, save, splits_of, write

from pipelines.data.dataset import read_dataset
from pipelines.data.prepare import prepare
from resunet.errors import DataError


def form(kind: Literal["NFC", "NFD"], name: str = "Zellkörper é {}.png", number: int = 0) -> str:
    return unicodedata.normalize(kind, name.format(number))


def with_accents(root: Path, images: Literal["NFC", "NFD"], masks: Literal["NFC", "NFD"]) -> Path:
    for index in range(24):
        save(root / "images" / form(images, number=index), picture(index))
        save(root / "masks" / form(masks, number=index), blob())
    return root


@pytest.mark.parametrize(("images", "others"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_names_are_the_same_whatever_normal_form_they_are_written_in(
    tmp_path: Path, images: Literal["NFC", "NFD"], others: Literal["NFC", "NFD"]
) -> None:
    root = with_accents(tmp_path, images, others)
    write(root / "metadata.csv", f"file,group,stain\n{form(others)},patient,x\n{form(others, number=1)},patient,x\n")
    write(root / "groups.csv", f"file,group\nimages/{form(others, number=2)},slide\n")
    report = prepare(root)
    assert not report.refused and not any("without" in one.check for one in report.problems)
    groups = {sample.image.name: sample.group for sample in report.dataset.samples}
    assert [groups[form(images, number=index)] for index in range(4)] == ["patient", "patient", "slide", None]
    assert sum(report.slices["stain=x"].values()) == 2
    before = splits_of(report)
    mended = prepare(root, mend=True)
    assert mended.new_group_rows == 23 and splits_of(mended) == before and not mended.refused
    assert prepare(root, mend=True).new_group_rows == 0


def test_two_rows_that_name_one_image_in_two_normal_forms_may_not_disagree(tmp_path: Path) -> None:
    root = with_accents(tmp_path, "NFD", "NFD")
    write(root / "metadata.csv", f"file,group\n{form('NFC')},a\n{form('NFD')},a\n")
    assert read_dataset(root).samples[0].group == "a"
    for table in ("metadata.csv", "groups.csv"):
        write(root / table, f"file,group\n{form('NFC')},a\n{form('NFD')},b\n")
        with pytest.raises(DataError, match=rf"{table}, line 3"):
            read_dataset(root)
        (root / table).unlink()


def test_images_that_differ_in_normal_form_alone_are_told_apart_where_a_row_does(tmp_path: Path) -> None:
    root = with_accents(tmp_path, "NFD", "NFD")
    save(root / "images" / form("NFC"), picture(700))
    save(root / "masks" / form("NFC"), blob())
    write(root / "groups.csv", f"file,group\n{form('NFC')},a\n{form('NFD')},b\n")
    report = prepare(root)
    assert not report.refused
    assert {s.image.name: s.group for s in report.dataset.samples if s.group} == {form("NFC"): "a", form("NFD"): "b"}
    mixed = form("NFC", "Zellkörper ") + form("NFD", "é 0.png")
    write(root / "groups.csv", f"file,group\n{mixed},a\n{form('NFD', number=1)},a\n")
    told = problem(prepare(root), "groups without image")
    assert told.severity == "refuse" and "different Unicode normal forms" in told.what_to_do


def test_two_masks_that_read_the_same_are_no_guess(tmp_path: Path) -> None:
    root = with_accents(tmp_path, "NFD", "NFD")
    save(root / "masks" / form("NFC"), blob(value=0))
    told = problem(prepare(root), "stem clash")
    assert sorted(told.files) == sorted(f"masks/{form(kind)}" for kind in ("NFC", "NFD"))


def test_a_misspelt_name_is_recognised_in_another_normal_form(tmp_path: Path) -> None:
    root = with_accents(tmp_path, "NFD", "NFD")
    for name, hint in (("Zellkörper é 0", "with the extension"), ("Zellkörper é 0.PNG", "upper and lower case")):
        write(root / "groups.csv", f"file,group\n{form('NFC', name)},a\n{form('NFC', number=1)},a\n")
        told = problem(prepare(root), "groups without image")
        assert told.severity == "refuse" and hint in told.what_to_do


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("metadata.csv", "p000.png,nice, field 0,patient0"),
        ("metadata.csv", "p000.png,patient0"),
        ("groups.csv", "p000.png,a group, of two"),
        ("groups.csv", "p000.png"),
    ],
)
def test_a_line_with_other_cells_than_the_header_is_refused_as_its_group_would_be_another(
    tmp_path: Path, table: str, line: str
) -> None:
    make(tmp_path)
    header = "file,note,group" if table == "metadata.csv" else "file,group"
    write(tmp_path / table, f"{header}\n{line}\n")
    with pytest.raises(DataError, match=rf"{table}, line 2 has \d cells where the header has \d"):
        prepare(tmp_path)


def test_cells_that_are_empty_beyond_the_header_are_a_spreadsheets(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "metadata.csv", "file,note,group\np000.png,nice,patient0,,\n\n")
    (first,) = [sample for sample in read_dataset(tmp_path).samples if sample.file == "images/p000.png"]
    assert first.group == "patient0"


@pytest.mark.parametrize("header", ["file,note,group,,", ",file,note,,group", "file,note,group, "])
def test_columns_without_name_and_text_are_a_spreadsheets(tmp_path: Path, header: str) -> None:
    make(tmp_path)
    cells = {"file": "p000.png", "note": "nice", "group": "patient0"}
    line = ",".join(cells.get(name, "") for name in header.split(","))
    write(tmp_path / "metadata.csv", f"{header}\n{line}\n,,,,\n")
    write(tmp_path / "groups.csv", "file,group,,\np001.png,slide,,\n,,,\n")
    dataset = read_dataset(tmp_path)
    assert [sample.group for sample in dataset.samples[:2]] == ["patient0", "slide"]
    assert dataset.slice_columns == ("note",) and dataset.strays == ()


def test_an_index_without_a_name_before_the_columns_does_no_harm(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "metadata.csv", ",file,note,group\n0,p000.png,nice,patient0\n1,p001.png,nice,patient0\n")
    dataset = read_dataset(tmp_path)
    assert [sample.group for sample in dataset.samples[:2]] == ["patient0", "patient0"]
    assert dataset.slice_columns == ("note",)


def test_text_in_a_column_without_a_name_is_not_taken_for_the_one_before_it(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "metadata.csv", "file,note,group,,\np000.png,nice, field 0,patient0,\n")
    with pytest.raises(DataError, match=r"line 2 has 4 cells where the header has 3: .*give each column .* a name"):
        prepare(tmp_path)


def test_a_column_that_is_nearly_called_group_is_asked_about(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "metadata.csv", "file,Group\np000.png,1\n")
    with pytest.raises(DataError, match="its column 'Group' has to be called 'group'"):
        prepare(tmp_path)


@pytest.mark.parametrize("table", ["metadata.csv", "groups.csv"])
def test_a_table_that_is_no_file_is_refused(tmp_path: Path, table: str) -> None:
    make(tmp_path)
    (tmp_path / table).mkdir()
    with pytest.raises(DataError, match=rf"{table} cannot be read \(Is a directory\)"):
        prepare(tmp_path)
