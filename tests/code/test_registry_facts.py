"""What is known of a version from its files, and where its data set is."""

from pathlib import Path

import pytest
from gate_evidence import scores

from records.digests import DIGESTS_FILE, verify_digests, write_digests
from records.trust import Trust
from registry.data_place import DATA_TAG, DataPlace, find_data
from registry.evidence import VERSION_FOLDER
from registry.facts import read_facts
from registry.signing import keygen, sign
from resunet.errors import SettingsError


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return keygen(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def model(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A version's folder, listed and signed."""
    root = tmp_path / "model"
    (root / VERSION_FOLDER).mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / VERSION_FOLDER / "model.onnx").write_bytes(bytes(range(256)))
    scores([0.9] * 12).write(root / VERSION_FOLDER)
    write_digests(root)
    sign(root, keys[0])
    return root


def test_sound_files_tell_their_digest_their_evaluation_and_their_signer(model: Path, keys: tuple[Path, Path]) -> None:
    facts = read_facts("3", model, Trust(keys=keys[1]))
    assert (facts.version, facts.digest, facts.damage, facts.unsigned) == ("3", verify_digests(model), "", "")
    assert facts.signer.startswith("key ")
    assert facts.evaluation == scores([0.9] * 12)
    assert f"{VERSION_FOLDER}/model.onnx" in facts.listing


def test_where_nobody_is_trusted_no_signature_is_looked_at(model: Path) -> None:
    (model / "model.sig").unlink()
    facts = read_facts("3", model, None)
    assert (facts.signer, facts.unsigned, facts.damage) == ("", "", "")


@pytest.mark.parametrize("what", ["none", "another key's"])
def test_a_version_without_a_signature_that_is_trusted_says_why(
    what: str, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    trusted = keys[1]
    if what == "none":
        (model / "model.sig").unlink()
    else:
        trusted = keygen(tmp_path / "others")[1]
    facts = read_facts("3", model, Trust(keys=trusted))
    assert facts.signer == ""
    assert facts.unsigned
    assert facts.digest and not facts.damage  # the files themselves are sound


def flip(model: Path) -> None:
    (model / VERSION_FOLDER / "model.onnx").write_bytes(bytes(256))


def add(model: Path) -> None:
    (model / VERSION_FOLDER / "more.py").write_text("import os\n")


def remove(model: Path) -> None:
    (model / VERSION_FOLDER / "model.onnx").unlink()


def unlist(model: Path) -> None:
    (model / DIGESTS_FILE).unlink()


@pytest.mark.parametrize(
    ("harm", "named"), [(flip, "model.onnx"), (add, "more.py"), (remove, "model.onnx"), (unlist, DIGESTS_FILE)]
)
def test_damage_is_a_finding_that_names_the_file_and_leaves_nothing_to_believe(
    harm: object, named: str, model: Path, keys: tuple[Path, Path]
) -> None:
    harm(model)  # type: ignore[operator]
    facts = read_facts("3", model, Trust(keys=keys[1]))
    assert named in facts.damage
    assert (facts.digest, facts.evaluation, facts.signer) == ("", None, "")


def test_a_version_that_was_never_evaluated_says_so(model: Path, keys: tuple[Path, Path]) -> None:
    (model / VERSION_FOLDER / "evaluation.json").unlink()
    write_digests(model)
    facts = read_facts("3", model, None)
    assert facts.evaluation is None
    assert "evaluation.json is missing" in facts.problem
    assert facts.digest


def test_a_key_that_is_not_there_is_the_servers_mistake_and_no_finding(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        read_facts("3", model, Trust(keys=tmp_path / "none.pem"))


PLACE = DataPlace("/data/nuclei", where="stain=a", slices="modality")


def test_where_the_data_set_is_reads_back_as_it_was_noted() -> None:
    assert find_data({DATA_TAG: PLACE.to_tag()}, None, "version 7") == PLACE
    assert PLACE.options() == ["--data=/data/nuclei", "--where=stain=a", "--slices=modality"]


def test_a_setting_moves_the_folder_and_keeps_the_rest() -> None:
    found = find_data({DATA_TAG: PLACE.to_tag()}, Path("/mnt/nuclei"), "version 7")
    assert found == DataPlace("/mnt/nuclei", where="stain=a", slices="modality")
    assert find_data({}, Path("/mnt/nuclei"), "version 7") == DataPlace("/mnt/nuclei")


@pytest.mark.parametrize("tag", [None, "", "{", "[]", '{"data": 7}', '{"data": ""}'])
def test_where_nobody_noted_the_data_set_the_setting_is_named(tag: str | None) -> None:
    with pytest.raises(SettingsError, match=r"data set of version 7 is: set RESUNET_DATA"):
        find_data({} if tag is None else {DATA_TAG: tag}, None, "version 7")


def test_a_noted_value_that_looks_like_an_option_stays_a_value() -> None:
    """Whoever can write a run's tags may write anything."""
    assert DataPlace("--only").options() == ["--data=--only"]
