import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_factory import picture
from filelock import FileLock
from range_server import Site, served
from rich.console import Console

from pipelines.data.bbbc038 import convert
from pipelines.data.dataset import load, read_dataset
from pipelines.data.download import download
from resunet.errors import DataError, SettingsError

BODY = np.random.default_rng(0).bytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site(BODY)) as running:
        yield running


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"file.zip.lock"}


def no_pause(_: float) -> None:
    """Tests do not wait."""


def test_a_file_is_fetched_once(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "new/file.zip"
    console = Console(file=io.StringIO(), force_terminal=True)
    assert download(site.url, SHA256.upper(), target, console) == target
    assert target.read_bytes() == BODY
    assert left(target.parent) == {"file.zip"}
    download(site.url, SHA256, target)
    assert site.requests == [None]


def test_a_broken_connection_is_resumed_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.break_after = [70_000, 30_000]
    waited: list[float] = []
    download(site.url, SHA256, tmp_path / "file.zip", pause=waited.append)
    assert (tmp_path / "file.zip").read_bytes() == BODY
    assert site.requests == [None, "bytes=70000-", "bytes=100000-"]
    assert waited == [1.0, 2.0]


def test_a_later_call_goes_on_where_the_last_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.break_after = [50_000]
    with pytest.raises(DataError, match=r"after 50,000 bytes .* run it again"):
        download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    assert left(tmp_path) == {"file.zip.part", "file.zip.part.json"}
    assert "secret" not in (tmp_path / "file.zip.part.json").read_text()
    download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    assert site.requests[1:] == ["bytes=50000-"]
    assert left(tmp_path) == {"file.zip"}


def test_a_file_that_arrived_whole_but_was_not_checked_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    site.break_after = [150_000]
    with pytest.raises(DataError):
        download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    (tmp_path / "file.zip.part").write_bytes(BODY)
    download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    assert site.requests[1:] == ["bytes=200000-"]
    assert (tmp_path / "file.zip").read_bytes() == BODY


def test_a_server_without_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.break_after = [70_000]
    download(site.url, SHA256, tmp_path / "file.zip", pause=no_pause)
    assert (tmp_path / "file.zip").read_bytes() == BODY
    assert site.requests == [None, "bytes=70000-"]


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(site: Site, tmp_path: Path) -> None:
    site.break_after = [70_000]
    with pytest.raises(DataError):
        download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    site.body = BODY[::-1]
    site.etag = '"v2"'
    download(site.url, hashlib.sha256(site.body).hexdigest(), tmp_path / "file.zip", attempts=1)
    assert (tmp_path / "file.zip").read_bytes() == BODY[::-1]
    # One request: the server saw what the part belonged to and sent the new file from its beginning.
    assert site.requests == [None, "bytes=70000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_etag_a_spoilt_resume_is_noticed_and_started_over(
    site: Site, tmp_path: Path, etag: str | None
) -> None:
    site.etag = etag
    site.break_after = [70_000]
    with pytest.raises(DataError):
        download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    site.body = BODY[::-1]
    download(site.url, hashlib.sha256(site.body).hexdigest(), tmp_path / "file.zip", attempts=1)
    assert (tmp_path / "file.zip").read_bytes() == BODY[::-1]
    assert site.requests == [None, "bytes=70000-", None]


def test_a_part_of_another_address_is_not_used(site: Site, tmp_path: Path) -> None:
    site.break_after = [70_000]
    with pytest.raises(DataError):
        download(site.url + "&other", SHA256, tmp_path / "file.zip", attempts=1)
    download(site.url, SHA256, tmp_path / "file.zip")
    assert site.requests == [None, None]


def test_a_part_that_somebody_else_began_is_not_lost(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"file\.zip\.part was not begun here .*; move it"):
        download(site.url, SHA256, tmp_path / "file.zip")
    assert (tmp_path / "file.zip.part").read_bytes() == b"mine" and site.requests == []


def test_a_file_with_another_checksum_is_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Nothing was kept") as caught:
        download(site.url, "0" * 64, tmp_path / "file.zip")
    assert left(tmp_path) == set()
    assert site.requests == [None]
    assert "secret" not in str(caught.value)


def test_an_existing_file_with_another_checksum_is_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match="exists with another checksum"):
        download(site.url, SHA256, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == b"mine"
    assert site.requests == []


def test_a_passing_failure_of_the_server_is_tried_again_and_a_lasting_one_is_not(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    download(site.url, SHA256, tmp_path / "a.zip", pause=no_pause)
    site.statuses = [404]
    with pytest.raises(DataError, match="answers 404"):
        download(site.url, SHA256, tmp_path / "b.zip", pause=no_pause)
    assert len(site.requests) == 4


def test_an_answer_longer_than_allowed_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are allowed"):
        download(site.url, SHA256, tmp_path / "file.zip", max_bytes=1000)
    site.lengths = False
    with pytest.raises(DataError, match="allowed"):
        download(site.url, SHA256, tmp_path / "file.zip", max_bytes=1000)


def test_a_server_that_is_not_there_is_an_error_with_a_way_on(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run it again"):
        download("http://127.0.0.1:9/x.zip", SHA256, tmp_path / "file.zip", attempts=2, pause=no_pause)


@pytest.mark.parametrize(("url", "sha256"), [("ftp://x/y", SHA256), ("http://x/y", "abc")])
def test_an_address_or_checksum_that_is_none_is_refused(url: str, sha256: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        download(url, sha256, tmp_path / "file.zip")


@pytest.mark.parametrize(
    "url", ["http://[bad", "http://", "https://user@/x.zip", "http://x:port/", "http://xn--/", "http://\n"]
)
def test_an_address_that_cannot_be_read_is_told_in_a_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the address (is malformed|names no host).*; correct --url"):
        download(url, SHA256, tmp_path / "file.zip")


def test_a_checksum_vouches_for_whatever_a_redirect_leads_to(site: Site, tmp_path: Path) -> None:
    far = "http://127.0.0.2:9/x.zip"
    site.redirects = [far, far]
    with pytest.raises(DataError, match="ConnectError"):
        download(site.url, SHA256, tmp_path / "file.zip", attempts=1)
    with pytest.raises(SettingsError, match=r"http:// address .* --sha256"):
        download(site.url, None, tmp_path / "file.zip", attempts=1)


def test_a_host_whose_name_cannot_be_asked_for_is_told_in_a_sentence(site: Site, tmp_path: Path) -> None:
    far = f"http://{'a' * 70}.invalid/x.zip"
    for url, redirects in ((far, []), (site.url, [far]), (site.url, ["http://xn--/"])):
        site.redirects = redirects
        with pytest.raises(DataError, match=r"check the address|run it again"):
            download(url, SHA256, tmp_path / "file.zip", attempts=1)


def test_two_downloads_of_one_file_do_not_write_over_each_other(site: Site, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "file.zip.lock"),
        pytest.raises(DataError, match="another process"),
    ):
        download(site.url, SHA256, tmp_path / "file.zip")


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def square(top: int, left: int) -> bytes:
    mask = np.zeros((32, 40), np.uint8)
    mask[top : top + 6, left : left + 6] = 255
    return png(mask)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


def bbbc038(prefix: str = "") -> dict[str, bytes]:
    alpha = np.full((32, 40), 255, np.uint8)
    dark = np.full((32, 40, 3), 10, np.uint8)
    light = np.full((32, 40, 3), 230, np.uint8)
    return {
        f"{prefix}aa11/": b"",
        f"{prefix}aa11/images/aa11.png": png(np.dstack([dark, alpha])),
        f"{prefix}aa11/masks/m1.png": square(2, 2),
        f"{prefix}aa11/masks/m2.png": square(20, 30),
        f"{prefix}bb22/images/bb22.png": png(np.dstack([picture(3, 32, 40), alpha])),
        f"{prefix}bb22/masks/m1.png": square(9, 9),
        f"{prefix}cc33/images/cc33.png": png(light),
        f"__MACOSX/{prefix}cc33/images/cc33.png": b"resource fork",
        f"{prefix}notes.txt": b"hello",
    }


@pytest.mark.parametrize("prefix", ["", "stage1_train/"])
def test_the_archive_becomes_a_data_set(tmp_path: Path, prefix: str) -> None:
    source = archive(tmp_path / "a.zip", bbbc038(prefix))
    assert convert(source, tmp_path / "set") == 3
    dataset = read_dataset(tmp_path / "set")
    assert [sample.file for sample in dataset.samples] == [f"images/{i}.png" for i in ("aa11", "bb22", "cc33")]
    assert [sample.slices["modality"] for sample in dataset.samples] == [
        "fluorescence",
        "histology",
        "brightfield",
    ]
    assert dataset.slice_columns == ("modality",) and dataset.class_names == ("foreground",)
    _, mask = load(dataset.samples[0])
    assert mask.sum() == 72 and mask[2, 2] == 1 and mask[20, 30] == 1
    assert load(dataset.samples[2])[1].sum() == 0
    lines = (tmp_path / "set/metadata.csv").read_text().splitlines()
    assert lines[:2] == ["file,modality,width,height,nuclei", "aa11.png,fluorescence,40,32,2"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "set"}


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"../../evil/images/evil.png": png(picture(1))}, "unsafe name"),
        ({"/etc/images/etc.png": png(picture(1))}, "unsafe name"),
        ({"..\\x\\images\\x.png": png(picture(1))}, "unsafe name"),
        ({"aa11/masks/m3.png": png(np.zeros((32, 32), np.uint8))}, "another size"),
        ({"dd44/images/dd44.png": b"no image"}, "dd44.png"),
    ],
)
def test_an_archive_that_is_unsafe_or_damaged_leaves_nothing_behind(
    tmp_path: Path, extra: dict[str, bytes], says: str
) -> None:
    source = archive(tmp_path / "a.zip", bbbc038() | extra)
    with pytest.raises(DataError, match=says):
        convert(source, tmp_path / "inside/set")
    assert list((tmp_path / "inside").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "inside"}


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.data.bbbc038.MAX_MEMBER_BYTES", 50)
    with pytest.raises(DataError, match="larger than 50 bytes"):
        convert(archive(tmp_path / "a.zip", bbbc038()), tmp_path / "set")


def test_what_is_no_archive_of_bbbc038_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="damaged or no plain zip"):
        convert(tmp_path / "no.zip", tmp_path / "set")
    with pytest.raises(DataError, match="not BBBC038"):
        convert(archive(tmp_path / "other.zip", {"a.png": b""}), tmp_path / "set")
    with pytest.raises(DataError, match=r"cannot be made of absent\.zip"):
        convert(tmp_path / "absent.zip", tmp_path / "set")


def test_a_folder_with_something_in_it_is_never_written_into(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", bbbc038())
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        convert(source, tmp_path / "set")
