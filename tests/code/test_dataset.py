import csv
import os
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import add, blob, make, picture, save, write
from PIL import Image

from pipelines.data.dataset import load, read_dataset
from pipelines.data.slice_filter import parse_slices, parse_where, quoted
from resunet.errors import DataError
from resunet.images import read_image

RGB = picture(1, 20, 33)
GREY = RGB[..., 0]


def as_16_bit() -> Image.Image:
    return Image.fromarray(GREY.astype(np.uint16) * 256 + 77)


def as_rgba() -> Image.Image:
    return Image.fromarray(np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)]))


IMAGES = {
    "png 8-bit grey": ("a.png", Image.fromarray(GREY), GREY),
    "png 16-bit grey": ("a.png", as_16_bit(), GREY),
    "png RGB": ("a.png", Image.fromarray(RGB), RGB),
    "png RGBA": ("a.png", as_rgba(), RGB),
    "png palette": ("a.png", Image.fromarray(GREY).convert("P"), GREY),
    "png upper case": ("a.PNG", Image.fromarray(RGB), RGB),
    "tiff 8-bit grey": ("a.tif", Image.fromarray(GREY), GREY),
    "tiff 16-bit grey": ("a.tiff", as_16_bit(), GREY),
    "tiff RGB": ("a.tiff", Image.fromarray(RGB), RGB),
    "bmp grey": ("a.bmp", Image.fromarray(GREY), GREY),
    "bmp RGB": ("a.bmp", Image.fromarray(RGB), RGB),
    "jpeg RGB": ("a.jpg", Image.fromarray(RGB), None),
    "jpeg grey": ("a.jpeg", Image.fromarray(GREY), None),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_format_and_mode_load_as_rgb_with_their_mask(tmp_path: Path, kind: str) -> None:
    name, image, expected = IMAGES[kind]
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / name)
    save(tmp_path / "masks/a.png", blob(20, 33))
    (sample,) = read_dataset(tmp_path).samples
    rgb, mask = load(sample)
    assert sample.file == f"images/{name}"
    assert rgb.shape == (20, 33, 3) and rgb.dtype == np.uint8
    assert mask.shape == (20, 33) and set(np.unique(mask)) == {0, 1}
    if expected is not None:
        assert np.array_equal(rgb, expected if expected.ndim == 3 else np.dstack([expected] * 3))
    else:
        assert np.array_equal(rgb, read_image(sample.image))


@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_has_one_class_and_indices_0_and_1(tmp_path: Path, value: int) -> None:
    add(tmp_path, "a", RGB, blob(20, 33, value))
    add(tmp_path, "b", RGB, blob(20, 33, 0))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("foreground",)
    assert np.array_equal(load(dataset.samples[0])[1], blob(20, 33, 1))


def test_a_1_bit_mask_is_binary(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB)
    Image.fromarray(blob(20, 33)).convert("1").save(tmp_path / "masks/a.png")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("foreground",)
    assert np.array_equal(load(dataset.samples[0])[1], blob(20, 33, 1))


def test_a_palette_mask_is_read_as_its_indices(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB)
    palette = Image.fromarray(blob(20, 33, 3)).convert("P")
    palette = Image.new("P", (33, 20))
    palette.putdata(blob(20, 33, 3).ravel().tolist())
    palette.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "masks/a.png")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("background", "class 1", "class 2", "class 3")
    assert set(np.unique(load(dataset.samples[0])[1])) == {0, 3}


def test_class_names_come_from_classes_txt(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB, blob(20, 33, 1))
    write(tmp_path / "classes.txt", "background\nnucleus\nmembrane\n")
    assert read_dataset(tmp_path).class_names == ("background", "nucleus", "membrane")
    write(tmp_path / "classes.txt", "background\nnucleus\n")
    assert read_dataset(tmp_path).class_names == ("nucleus",)


@pytest.mark.parametrize("text", ["nucleus\n", "a\na\n", "\n".join(map(str, range(33)))])
def test_classes_txt_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    add(tmp_path, "a", RGB)
    write(tmp_path / "classes.txt", text)
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_classes_txt_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    add(tmp_path, "a", RGB)
    (tmp_path / "classes.txt").write_bytes("Hintergrund\nZellkörper\n".encode(encoding))
    with pytest.raises(DataError, match=r"classes\.txt is not text in UTF-8 .*; save it as such"):
        read_dataset(tmp_path)


def test_what_is_no_image_is_listed_and_does_no_harm(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB)
    (tmp_path / "images/nested").mkdir()
    add(tmp_path / "images/nested", "b", RGB)
    write(tmp_path / "images/.hidden.png", "")
    write(tmp_path / "images/notes.txt", "")
    write(tmp_path / "masks/a.jpg", "")
    dataset = read_dataset(tmp_path)
    assert [sample.file for sample in dataset.samples] == ["images/a.png"]
    assert set(dataset.ignored_files) == {
        "images/nested",
        "images/.hidden.png",
        "images/notes.txt",
        "masks/a.jpg",
    }


def test_a_folder_without_images_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'images'"):
        read_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        read_dataset(tmp_path)


def test_text_columns_of_few_values_are_slices_and_others_are_not(tmp_path: Path) -> None:
    make(tmp_path)
    rows = [f"images/p{i:03d}.png,{'ab'[i % 2]},{i}.5,id{i},g{i // 2}" for i in range(24)]
    write(tmp_path / "metadata.csv", "\ufefffile,stain,age,serial,group\n" + "\n".join(rows))
    dataset = read_dataset(tmp_path)
    assert dataset.slice_columns == ("stain",)
    assert dataset.ignored_columns == {"serial": 24}
    assert dataset.samples[3].slices == {"stain": "b"}
    assert dataset.samples[3].group == "g1"
    assert read_dataset(tmp_path, slices=["serial", "age"]).samples[3].slices == {
        "serial": "id3",
        "age": "3.5",
    }
    with pytest.raises(DataError, match=r"no column 'x'.*stain, age, serial"):
        read_dataset(tmp_path, slices=["x"])


def test_a_file_name_in_metadata_may_leave_out_its_folder(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB)
    write(tmp_path / "metadata.csv", "file,stain\na.png,x\ngone.png,x\n")
    dataset = read_dataset(tmp_path)
    assert dataset.samples[0].slices == {"stain": "x"}
    assert [stray.files for stray in dataset.strays] == [("gone.png",)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,stain\na.png,x\n", "a column 'file'"),
        ("file,stain\na.png,x\nimages/a.png,y\n", "a second row for a.png"),
        ("file,stain,stain\na.png,x,y\n", "no column twice"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    add(tmp_path, "a", RGB)
    write(tmp_path / "metadata.csv", text)
    with pytest.raises(DataError, match=says):
        read_dataset(tmp_path)


def test_metadata_in_another_encoding_is_refused_with_a_reason(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB)
    (tmp_path / "metadata.csv").write_bytes("file,stain\na.png,grün\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        read_dataset(tmp_path)


def test_groups_csv_wins_and_its_group_takes_the_rest_of_a_metadata_group_along(tmp_path: Path) -> None:
    for stem in "abc":
        add(tmp_path, stem, RGB)
    write(tmp_path / "metadata.csv", "file,group\na.png,slide\nb.png,slide\n")
    write(tmp_path / "groups.csv", "file,group\nimages/a.png,joined\n")
    assert [sample.group for sample in read_dataset(tmp_path).samples] == ["joined", "joined", None]
    elsewhere = tmp_path / "elsewhere.csv"
    write(elsewhere, "file,group\na.png,other\nc.png,third\n")
    dataset = read_dataset(tmp_path, groups_file=elsewhere)
    assert [sample.group for sample in dataset.samples] == ["other", "other", "third"]


@pytest.mark.parametrize("text", ["file\na.png\n", "file,group\na.png,\n", "file,group\na.png,x\na.png,y\n"])
def test_a_groups_csv_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    add(tmp_path, "a", RGB)
    write(tmp_path / "groups.csv", text)
    with pytest.raises(DataError, match=r"groups\.csv"):
        read_dataset(tmp_path)


def sliced(tmp_path: Path) -> Path:
    for stem in "abcd":
        add(tmp_path, stem, RGB, blob(20, 33, 2 if stem == "d" else 1))
    write(tmp_path / "metadata.csv", "file,m,n\na.png,x,p\nb.png,y,p\nc.png,z,q\nd.png,,q\n")
    return tmp_path


@pytest.mark.parametrize(("expression", "kept"), [("m=x", "a"), ("m=x|y", "ab"), ("m=y|z, n=q", "c"), ("n=q", "cd")])
def test_where_keeps_the_slices_it_names(tmp_path: Path, expression: str, kept: str) -> None:
    dataset = read_dataset(sliced(tmp_path)).where(expression)
    assert "".join(sample.image.stem for sample in dataset.samples) == kept
    assert dataset.class_names == ("background", "class 1", "class 2")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("stain=x", "Slice columns: m, n"),
        ("m=x|w", "'m' is never 'w'. Its values: x, y, z"),
        ("m=x,n=q", "no image has"),
    ],
)
def test_where_says_what_there_is_instead(tmp_path: Path, expression: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_dataset(sliced(tmp_path)).where(expression)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('m="H&E, 40x"', {"m": {"H&E, 40x"}}),
        ('m="a|b"|c , n = x', {"m": {"a|b", "c"}, "n": {"x"}}),
        ('m="say ""b"""| "c" ', {"m": {'say "b"', "c"}}),
        ('"m, n"=x', {"m, n": {"x"}}),
        ('"m=n"="x=y"|a=b', {"m=n": {"x=y", "a=b"}}),
        ('m=5" lens', {"m": {'5" lens'}}),
    ],
)
def test_what_stands_between_double_quotes_is_one_value_or_column(expression: str, wanted: dict[str, set[str]]) -> None:
    assert parse_where(expression) == wanted


def test_a_value_or_column_is_told_as_the_filter_understands_it(tmp_path: Path) -> None:
    values = ["H&E, 40x", "a|b", 'say "b"', "a=b", "plain"]
    for stem in "abcde":
        add(tmp_path, stem, RGB)
    with (tmp_path / "metadata.csv").open("w", newline="") as stream:
        rows = [[f"{stem}.png", value, value] for stem, value in zip("abcde", values, strict=True)]
        csv.writer(stream).writerows([["file", "m", "at, where"], *rows])
    dataset = read_dataset(tmp_path)
    for value, stem in zip(values, "abcde", strict=True):
        for column in dataset.slice_columns:
            (kept,) = dataset.where(f"{quoted(column)}={quoted(value)}").samples
            assert kept.image.stem == stem
    with pytest.raises(DataError, match=r'Its values: "H&E, 40x", "a=b", "a\|b", plain, "say ""b"""$'):
        dataset.where("m=x")
    with pytest.raises(DataError, match=r'Slice columns: m, "at, where"$'):
        dataset.where("x=x")
    with pytest.raises(DataError, match=r"'40x' is not understood; .*between double quotes"):
        dataset.where("m=H&E, 40x")
    asked = read_dataset(tmp_path, slices=parse_slices(' "at, where" ,m'))
    assert asked.slice_columns == ("at, where", "m")


@pytest.mark.parametrize(
    "expression", ["", "m", "=x", "m=", "m= ", "m=x|", "m=x,m=y", "m=x,", 'm="x', 'm="x"y', 'm=""']
)
def test_a_filter_that_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(DataError, match="not understood"):
        parse_where(expression)


def test_loading_without_a_mask_or_with_one_of_another_size_says_so(tmp_path: Path) -> None:
    add(tmp_path, "a", RGB, blob(33, 20))
    save(tmp_path / "images/b.png", RGB)
    first, second = read_dataset(tmp_path).samples
    with pytest.raises(DataError, match=r"a\.png: the image is 33 x 20, its mask 20 x 33"):
        load(first)
    with pytest.raises(DataError, match=r"has no mask; add masks/b\.png"):
        load(second)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 10_000)])
def test_the_smallest_and_the_widest_image_are_accepted(tmp_path: Path, height: int, width: int) -> None:
    add(tmp_path, "a", picture(0, height, width))
    rgb, mask = load(read_dataset(tmp_path).samples[0])
    assert rgb.shape[:2] == mask.shape == (height, width)


def test_a_name_that_no_report_could_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    make(tmp_path)
    image = tmp_path / "images" / "p000.png"
    image.rename(image.with_name(os.fsdecode(b"\xff.png")))
    with pytest.raises(DataError, match=r"whose name is not UTF-8, .*: rename it"):
        read_dataset(tmp_path)
