"""What training and evaluation get of a data folder: its slices as asked for, and a report that is always kept."""

import io
import json
from pathlib import Path

import pytest
from dataset_factory import make, write
from rich.console import Console

from pipelines.data.data_step import folder_name, prepare_data, report_file
from pipelines.data.slice_filter import parse_slices
from pipelines.version.evaluate import known_slices
from resunet.errors import DataError, SettingsError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def with_table(root: Path) -> Path:
    make(root)
    rows = "".join(f"p{i:03d}.png,{'ab'[i % 2]},s{i},{i % 3}\n" for i in range(24))
    write(root / "metadata.csv", f"file,stain,serial,age\n{rows}")
    return root


def test_the_slices_are_the_columns_that_are_named_else_text_columns_of_few_values(tmp_path: Path) -> None:
    root = str(with_table(tmp_path / "set"))
    assert known_slices(prepare_data(root).manifest) == ["stain=a", "stain=b"]
    named = prepare_data(root, slices="age, serial")
    assert named.slices == "age, serial"
    assert {"age=0", "age=1", "age=2", "serial=s23"} <= set(known_slices(named.manifest))
    assert "slice:stain" not in named.manifest
    assert named.dataset.samples[4].slices == {"age": "1", "serial": "s4"}
    assert prepare_data(root, "", "", None, "stain").where == ""


def test_slices_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    root = str(with_table(tmp_path / "set"))
    with pytest.raises(DataError, match=r"no column 'colour'.*stain, serial, age"):
        prepare_data(root, slices="stain,colour")
    for text in (",", "stain,", "stain,,age"):
        with pytest.raises(SettingsError, match=r"write the columns of metadata\.csv as a,b"):
            prepare_data(root, slices=text)
    assert parse_slices("  ") is None


def test_a_groups_file_that_is_not_there_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        prepare_data(str(make(tmp_path / "set")), groups=str(tmp_path / "absent.csv"))


def test_the_report_is_kept_and_its_place_is_said(tmp_path: Path, home: Path) -> None:
    root, shown = make(tmp_path / "set"), io.StringIO()
    prepared = prepare_data(str(root), console=Console(file=shown, width=60))
    path = report_file(root)
    assert path.parent == home / "reports" and str(path) in shown.getvalue()
    assert json.loads(path.read_text("utf-8"))["fingerprint"] == prepared.fingerprint
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_refused_data_set_leaves_its_report_too(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    for index in range(8):
        (root / f"masks/p{index:03d}.png").write_bytes(b"no mask")
    with pytest.raises(DataError) as refused:
        prepare_data(str(root))
    assert str(report_file(root)) in str(refused.value)
    fields = json.loads(report_file(root).read_text("utf-8"))
    assert fields["refused"] and len(fields["problems"]) > 7


def test_a_home_that_cannot_be_written_to_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "file"))
    shown = io.StringIO()
    assert len(prepare_data(str(make(tmp_path / "set")), console=Console(file=shown, width=60)).manifest) == 24
    assert "the report cannot be written" in shown.getvalue()


def test_each_folder_has_a_name_of_its_own_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "a/my nuclei", tmp_path / "b/my nuclei"
    one.mkdir(parents=True)
    assert folder_name(one).startswith("my-nuclei-") and folder_name(one) != folder_name(other)
    (tmp_path / "link").symlink_to(one)
    monkeypatch.chdir(one)
    assert folder_name(Path()) == folder_name(tmp_path / "link") == folder_name(one)
    assert folder_name(Path("/")).startswith("data-")
