"""What `pipelines evidence` finds of a version that was really trained, held against computations of its own."""

import shutil
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import torch
from audit_database import no_audit_database  # noqa: F401
from evidence_scene import NAME, QUIET, Scene
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file

from pipelines.data.manifest import read_manifest, write_manifest
from pipelines.evidence import agreement, behaviour, speed
from pipelines.evidence.changes import CHANGES, Change
from pipelines.evidence.command import EvidenceOptions, measure_evidence
from pipelines.evidence.kinds import KINDS
from pipelines.evidence.subject import Subject, Version
from records import evidence as kept
from records.database import open_database
from records.digests import write_digests
from registry.comparison import compared
from registry.evidence import Document, Evaluation, Overlap, Performance
from registry.evidence.documents import DOCUMENTS, SCORES, parse_document
from registry.policy import load_policy
from resunet.errors import VersionError
from resunet.images import read_image
from resunet.networks import build_network
from resunet.networks.graph import normalise
from serving.predictor import Predictor
from serving.version import MANIFEST_FILE

Images = list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture(params=["resunet", "resunetpp of 3 classes"])
def any_scene(request: pytest.FixtureRequest) -> Scene:
    found: Scene = request.getfixturevalue("scene" if request.param == "resunet" else "classes")
    return found


def images(scene: Scene) -> Images:
    """The test images and masks, read without the platform's own reading of data sets."""
    rows = scene.data.manifest[scene.data.manifest["split"] == "test"]["path"]
    root = scene.data.root
    return [
        (path, read_image(root / path), np.array(Image.open(root / path.replace("images", "masks")))) for path in rows
    ]


def masks(scene: Scene, predictor: Predictor, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = predictor.predict(rgb).mask
    return (found > 0).astype(np.uint8) if predictor.spec.binary else found


def plain_dice(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean over the foreground classes that are there or were found."""
    values = []
    for number in sorted({*np.unique(found), *np.unique(truth)} - {0}):
        ours, theirs = found == number, truth == number
        values.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    return float(np.mean(values)) if values else 1.0


def done(advanced: list[int]) -> Callable[[int], None]:
    return advanced.append


def test_each_kind_is_measured_kept_and_found_by_the_gates(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.enter(monkeypatch)
    assert measure_evidence(EvidenceOptions(NAME, "1", by="ada"), QUIET) == list(KINDS)
    assert {SCORES, *DOCUMENTS} == set(KINDS) == load_policy(None).needs("Production")
    version = scene.version("1")
    records = open_database(f"sqlite:///{scene.folder / 'home' / 'records.db'}")
    found = kept.find(records, version.digest, scene.built.evaluation.fingerprint)
    # Nothing is live that it could be held beside.
    assert set(found) == set(KINDS) - {Overlap.kind}
    for kind, measured in found.items():
        parse_document(kind, measured.content)
        assert (measured.measured_by, measured.champion_digest) == ("ada", "")
    of_images = {kind for kind, measured in found.items() if measured.fingerprint}
    assert of_images == {SCORES, "lineage", "robustness", "calibration"}


def test_scores_are_those_of_the_training(any_scene: Scene) -> None:
    ((version, document),) = KINDS[SCORES](any_scene.subject("1"))
    before = any_scene.built.evaluation
    assert isinstance(document, Evaluation) and version.name == "version 1"
    assert document.model_copy(update={"engine": before.engine}) == before
    assert set(document.slices) == {"stain=a", "stain=b"}
    assert any(score.group for score in document.per_image)


def test_robustness_is_the_dice_of_images_that_were_changed_by_hand(any_scene: Scene) -> None:
    subject, advanced = any_scene.subject("1"), list[int]()
    document = behaviour.robustness(subject, done(advanced))
    predictor = subject.candidate.predictor
    assert set(document.conditions) == {"noise", "blur", "darker", "brighter", "jpeg", "mirrored", "upside_down"}
    assert sum(advanced) == len(document.images) == len(images(any_scene)) > 3
    by_hand: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        "darker": lambda rgb: np.rint(rgb * 0.8).astype(np.uint8),
        "brighter": lambda rgb: np.minimum(np.rint(rgb * 1.25), 255).astype(np.uint8),
        "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
        "upside_down": lambda rgb: np.ascontiguousarray(rgb[::-1]),
    }
    for place, (path, rgb, truth) in enumerate(images(any_scene)):
        assert document.images[place] == path
        assert document.clean[place] == pytest.approx(plain_dice(masks(any_scene, predictor, rgb), truth))
        for name, change in by_hand.items():
            flipped = change(truth) if CHANGES[name].flip is not None else truth
            expected = plain_dice(masks(any_scene, predictor, change(rgb)), flipped)
            assert document.conditions[name].dice[place] == pytest.approx(expected), (name, path)
    groups = any_scene.data.manifest.set_index("path")["group"]
    assert document.groups == [groups[path] for path in document.images] and set(document.groups) != {None}


def test_a_change_that_changes_nothing_costs_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Change("nothing", lambda rgb, rng: rgb)
    monkeypatch.setattr(behaviour, "CHANGES", {"nothing": nothing, "black": Change("black", lambda rgb, rng: rgb * 0)})
    document = behaviour.robustness(scene.subject("1"), done([]))
    assert document.conditions["nothing"].dice == document.clean
    assert np.mean(document.conditions["black"].dice) < np.mean(document.clean) - 0.5


def _disk() -> set[tuple[int, int]]:
    """The pixels within 5 of the middle, row by row as OpenCV draws an ellipse of 11 x 11."""
    return {
        (y, x)
        for y, x in product(range(-5, 6), range(-5, 6))
        if abs(x) <= round(float(np.sqrt(max(0.0, 5.0**2 - y**2))))
    }


def naive_calibration(scene: Scene, band: bool) -> tuple[float, int]:
    """Expected calibration error in 15 bins, pixel by pixel; within 5 px of a change in the mask, or everywhere."""
    predictor = Predictor.load(scene.built.directory)
    temperature = predictor.spec.calibration.temperature
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for _, rgb, truth in images(scene):
        probabilities = np.clip(predictor.probabilities(rgb).astype(np.float64), 1e-6, 1 - 1e-6)
        if predictor.spec.binary:
            stated = 1 / (1 + ((1 - probabilities[0]) / probabilities[0]) ** (1 / temperature))
            right = truth > 0
        else:
            powers = probabilities ** (1 / temperature)
            stated, right = (powers / powers.sum(0)).max(0), probabilities.argmax(0) == truth
        near = np.zeros(truth.shape, bool)
        padded = np.pad(truth.astype(int), 5, constant_values=-1)
        for y, x in _disk():
            other = padded[5 + y : 69 + y, 5 + x : 69 + x]
            near |= (other >= 0) & (other != truth)
        for value, hit in zip(stated[near | ~np.bool_(band)], right[near | ~np.bool_(band)], strict=True):
            bins[min(14, int(value * 15))].append((float(value), bool(hit)))
    pixels = sum(map(len, bins))
    gaps = (abs(np.mean([hit for _, hit in part]) - np.mean([v for v, _ in part])) * len(part) for part in bins if part)
    return float(sum(gaps) / pixels), pixels


@pytest.mark.parametrize("name", ["band", "everywhere"])
def test_calibration_is_that_of_a_count_pixel_by_pixel(any_scene: Scene, name: str) -> None:
    document = behaviour.calibration(any_scene.subject("1"), done([]))
    error, pixels = naive_calibration(any_scene, name == "band")
    found = getattr(document, name)
    assert found.pixels == pixels == sum(part.pixels for part in found.bins)
    assert found.error == pytest.approx(error, abs=1e-4)
    assert found.low <= found.error <= found.high and found.low < found.high
    assert document.images == len(images(any_scene)) and document.band.pixels < document.everywhere.pixels / 2


def test_calibration_of_one_group_says_nothing_of_the_next(scene: Scene) -> None:
    subject = scene.subject("1")
    one = [sample for sample in subject.samples if sample.group == next(s.group for s in subject.samples if s.group)]
    subject.__dict__["samples"] = one
    found = behaviour.calibration(subject, done([]))
    assert (found.images, found.band.low, found.band.high) == (2, 0.0, 1.0)


def altered(scene: Scene, folder: Path, change: Callable[[Path], None]) -> Subject:
    """Version 1 with other files, listed as if it had been made so."""
    model = Path(shutil.copytree(scene.model("1"), folder / "model"))
    change(model / "artifacts" / "version")
    write_digests(model)
    before = scene.subject("1")
    return Subject(Version.checked("version 7", model), None, before.place, QUIET)


def _alter_weights(root: Path) -> None:
    (path,) = root.glob("*.onnx")
    graph, rng = onnx.load(path), np.random.default_rng(0)
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            other = (values * rng.uniform(-1, 1, values.shape)).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    onnx.save(graph, path)


def torch_masks(scene: Scene) -> list[NDArray[np.uint8]]:
    """Of the weights alone, in torch."""
    spec = scene.built.spec
    network = build_network(spec.architecture, spec.width, 3, len(spec.class_names))
    network.load_state_dict(load_file(scene.built.directory / "weights.safetensors"))
    network.eval()
    found = []
    with torch.no_grad():
        for _, rgb, _ in images(scene):
            logits = network(normalise(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()))[0].numpy()
            found.append((logits[0] >= 0 if spec.binary else logits.argmax(0)).astype(np.uint8))
    return found


def onnx_masks(scene: Scene) -> list[NDArray[np.uint8]]:
    spec = scene.built.spec
    session = onnxruntime.InferenceSession(scene.built.directory / spec.serving_file)
    found = [session.run(["probabilities"], {"images": rgb[None]})[0][0] for _, rgb, _ in images(scene)]
    return [(one[0] >= 0.5 if spec.binary else one.argmax(0)).astype(np.uint8) for one in found]


def test_parity_is_that_of_two_runs_side_by_side(any_scene: Scene) -> None:
    document = agreement.parity(any_scene.subject("1"), done([]))
    ours, theirs = torch_masks(any_scene), onnx_masks(any_scene)
    equal = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
    lowest = min(plain_dice(a, b) for a, b in zip(theirs, ours, strict=True))
    found = next(one for one in document.engines if one.engine == "onnxruntime")
    assert found.pixel_agreement == pytest.approx(equal) and found.lowest_mask_dice == pytest.approx(lowest)
    assert (found.engine_agreement, document.images) == (1.0, len(ours))
    assert document.pixels == len(ours) * 64 * 64
    assert {one.engine for one in document.engines} == {"onnxruntime", "openvino"}
    assert next(
        one for one in document.engines if one.engine == Predictor.load(any_scene.built.directory).engine.name
    ).serves
    assert gate("parity", any_scene, document) == "pass"


def gate(name: str, scene: Scene, document: Document) -> str:
    """What the gate of this name says of a document, under the platform's own policy."""
    from registry.evidence import Evidence, VersionFacts

    (rule,) = [rule for rule in load_policy(None).stages["Production"] if rule.gate.name == name]
    facts = VersionFacts("1", "sha256:x", evaluation=scene.built.evaluation, documents={document.kind: document})
    return rule.gate(Evidence(NAME, "Production", facts), rule.settings).outcome


def test_parity_finds_a_serving_file_with_other_weights(any_scene: Scene, tmp_path: Path) -> None:
    document = agreement.parity(altered(any_scene, tmp_path, _alter_weights), done([]))
    assert max(one.pixel_agreement for one in document.engines if one.serves) < 0.9999
    assert min(one.lowest_mask_dice for one in document.engines) < 0.98
    assert gate("parity", any_scene, document) == "fail"


def test_parity_without_the_trained_weights_is_refused(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"weights.safetensors of version 7 is missing or not of a resunet of width"):
        agreement.parity(altered(scene, tmp_path, lambda root: (root / "weights.safetensors").unlink()), done([]))


def test_both_versions_are_timed_in_one_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced, asked, p95 = list[int](), list[str](), speed._Worker.p95

    def noted(worker: speed._Worker) -> float:
        asked.append(worker._version.name)
        return p95(worker)

    monkeypatch.setattr(speed._Worker, "p95", noted)
    found = speed.performance(scene.subject("2", champion="1"), done(advanced))
    one, two = "version 1", "version 2"
    assert asked == [two, one, one, two, two, one]
    assert len(found.candidate_p95_ms) == len(found.champion_p95_ms) == sum(advanced) == 3
    assert min(*found.candidate_p95_ms, *found.champion_p95_ms) > 0
    # The same network twice: no other process is counted in, and nothing but the unit could differ so much.
    assert found.champion_mb is not None and 0.5 < found.candidate_mb / found.champion_mb < 2
    assert found.engine.split()[1] == scene.built.spec.precision


def test_the_memory_is_that_of_the_version_and_not_of_who_measures(scene: Scene) -> None:
    before = speed.performance(scene.subject("1"), done([]))
    held = np.ones(300_000_000, np.uint8)
    found = speed.performance(scene.subject("1"), done([]))
    assert found.candidate_mb > 30 and found.candidate_mb - before.candidate_mb < held.nbytes / 1e6 / 2
    assert (found.champion_p95_ms, found.champion_mb) == ([], None)


def test_a_version_that_cannot_be_timed_says_so_and_leaves_no_process(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(root: Path) -> None:
        (path,) = root.glob("*.onnx")
        path.write_bytes(path.read_bytes()[:1000])

    broken = altered(scene, tmp_path, cut)
    subject = Subject(scene.version("1"), broken.candidate, broken.place, QUIET)
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(VersionError, match=r"version 7 cannot be timed here: .* cannot read"):
        speed.performance(subject, done([]))
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_worker_that_dies_is_told_by_its_last_words(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SIDE_PX", -1)
    with pytest.raises(VersionError, match=r"version 1 cannot be timed here: its process ended .*negative dimensions"):
        speed.performance(scene.subject("1"), done([]))


def test_the_live_version_is_measured_beside(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.enter(monkeypatch)
    with pytest.warns(FutureWarning):
        scene.client.transition_model_version_stage(NAME, "1", "Production")
    try:
        measure_evidence(EvidenceOptions(NAME, "2", only="scores,overlap,performance"), QUIET)
    finally:
        with pytest.warns(FutureWarning):
            scene.client.transition_model_version_stage(NAME, "1", "None")
    candidate, champion = scene.version("2"), scene.version("1")
    assert candidate.digest != champion.digest
    records = open_database(f"sqlite:///{scene.folder / 'home' / 'records.db'}")
    fingerprint = scene.built.evaluation.fingerprint
    ours = kept.find(records, candidate.digest, fingerprint, champion.digest)
    paths = [path for path, _, _ in images(scene)]
    assert {ours[kind].champion_digest for kind in ("performance", "overlap")} == {champion.digest}
    assert Performance.parse(ours["performance"].content).champion_p95_ms
    overlap = Overlap.parse(ours["overlap"].content)
    assert (overlap.own_images, sorted(overlap.shared)) == (len(paths), sorted(paths))
    assert not {"performance", "overlap"} & set(kept.find(records, candidate.digest, fingerprint, "sha256:another"))
    theirs = kept.find(records, champion.digest, fingerprint)
    assert Evaluation.parse(theirs[SCORES].content).images == len(images(scene))


def test_a_live_version_of_other_classes_cannot_be_compared_with(scene: Scene, classes: Scene) -> None:
    subject = Subject(scene.version("1"), classes.version("1"), scene.subject("1").place, QUIET)
    measured = KINDS[SCORES](subject)
    assert next(measured)[0] is subject.candidate
    with pytest.raises(VersionError, match=r"cannot be compared.*knows background, white, blue.*Archive it first"):
        next(measured)


def test_what_needs_no_image_is_measured_without_the_data_set(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(scene.version("1"), None, scene.subject("1").place, QUIET)
    monkeypatch.setattr(Subject, "data", property(lambda self: pytest.fail("it was read")))
    for kind in ("dependencies", "performance", "signature"):
        assert len(list(KINDS[kind](subject))) == 1


def test_the_live_version_is_not_asked_of_images_that_it_learnt_from(scene: Scene, tmp_path: Path) -> None:
    """As where groups were changed since: the test images of one were training images of the other."""
    first, *others = [path for path, _, _ in images(scene)]

    def learnt(paths: list[str]) -> Callable[[Path], None]:
        def change(root: Path) -> None:
            manifest = read_manifest(root / MANIFEST_FILE)
            manifest.loc[manifest["path"].isin(paths), ["split", "group"]] = ["train", None]
            write_manifest(manifest, root / MANIFEST_FILE)

        return change

    champion = altered(scene, tmp_path / "one", learnt([first])).candidate
    subject = Subject(scene.version("1"), champion, scene.subject("1").place, QUIET)
    (_, ours), (_, theirs) = KINDS[SCORES](subject)
    assert isinstance(ours, Evaluation) and isinstance(theirs, Evaluation)
    assert [score.path for score in theirs.per_image] == others and len(ours.per_image) == len(others) + 1
    assert theirs.fingerprint == ours.fingerprint
    pairs = compared(ours, theirs)
    assert pairs.enough and pairs.images == others and not pairs.differences.any()
    champion = altered(scene, tmp_path / "all", learnt([first, *others])).candidate
    measured = KINDS[SCORES](Subject(scene.version("1"), champion, scene.subject("1").place, QUIET))
    next(measured)
    with pytest.raises(VersionError, match=rf"it learnt from all of its {len(others) + 1} test images.*Archive it"):
        next(measured)
