"""The whole download: where it goes, what it trusts, and what it refuses before a byte is fetched."""

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_factory import blob, picture
from range_server import Site, served
from rich.console import Console

from pipelines.cli import app
from pipelines.data.bbbc038 import ADDRESS, convert, obtain
from pipelines.data.dataset import read_dataset
from pipelines.data.download import record, recorded
from records.console import run
from resunet.errors import DataError, SettingsError


def archive(*ids: str, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for number, identity in enumerate(ids):
            target.writestr(f"{identity}/images/{identity}.png", cv2.imencode(".png", picture(number))[1].tobytes())
            target.writestr(f"{identity}/masks/m1.png", cv2.imencode(".png", blob())[1].tobytes())
    return buffer.getvalue()


ARCHIVE = archive("aa11", "bb22")
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site(ARCHIVE)) as running:
        yield running


def images(root: Path) -> list[str]:
    return [sample.file for sample in read_dataset(root).samples]


def test_an_archive_becomes_a_data_set_in_a_new_or_an_empty_folder(site: Site, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        assert obtain(tmp_path / name, site.url, SHA256) == 2
        assert images(tmp_path / name) == ["images/aa11.png", "images/bb22.png"]
        assert {path.name for path in (tmp_path / name).iterdir()} == {"images", "masks", "metadata.csv"}
        assert (tmp_path / f"{name}.zip").read_bytes() == ARCHIVE


def test_the_current_folder_is_filled_and_stays_the_current_folder(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    number = here.stat().st_ino
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["pipelines", "download", ".", "--url", site.url, "--sha256", SHA256])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 0
    assert f"2 images in {here}" in " ".join(capsys.readouterr().err.split())
    assert images(Path()) == ["images/aa11.png", "images/bb22.png"] and here.stat().st_ino == number


def test_a_folder_with_something_in_it_is_refused_before_anything_is_fetched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        obtain(tmp_path / "set", site.url, SHA256)
    with pytest.raises(DataError, match="is a file"):
        obtain(tmp_path / "set/thesis.txt", site.url, SHA256)
    assert site.requests == []


def test_an_archive_that_is_refused_leaves_an_empty_folder_empty(site: Site, tmp_path: Path) -> None:
    site.body = b"PK no zip"
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=r"set aside as set\.zip\.damaged; run it again"):
        obtain(tmp_path / "set", site.url)
    assert list((tmp_path / "set").iterdir()) == []
    assert recorded(tmp_path / "set.zip") is None
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path / "set.zip.damaged", tmp_path / "set")


def test_an_archive_that_was_there_before_is_left_where_it_is(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"set\.zip .* was left as it is; move it, or choose another folder"):
        obtain(tmp_path / "set", site.url)
    assert (tmp_path / "set.zip").read_bytes() == b"mine" and site.requests == []
    assert {path.name for path in tmp_path.iterdir()} == {"set.zip", "set.zip.lock"}


def test_an_archive_is_set_aside_beside_those_that_were_before(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.damaged").write_bytes(b"mine")
    for number in (2, 3):
        site.body, site.etag = b"PK no zip" * number, f'"v{number}"'
        with pytest.raises(DataError, match=rf"set aside as set\.zip\.damaged-{number};"):
            obtain(tmp_path / "set", site.url)
        assert (tmp_path / f"set.zip.damaged-{number}").read_bytes() == site.body
    assert (tmp_path / "set.zip.damaged").read_bytes() == b"mine"


def flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]


def test_an_archive_whose_bytes_are_flipped_is_told_in_words_and_downloaded_anew(site: Site, tmp_path: Path) -> None:
    whole = archive("aa11", "bb22", compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        first = source.infolist()[0]
    # The head of a member, its name, the first block of its deflate stream, and its end.
    start = first.header_offset + 30 + len(first.filename)
    for number, place in enumerate((first.header_offset, 31, start, start + 1, start + first.compress_size - 1)):
        root = tmp_path / str(number) / "set"
        site.body, site.etag = flipped(whole, place), f'"spoilt {number}"'
        with pytest.raises(DataError, match=r"damaged or no plain zip .* set aside"):
            obtain(root, site.url)
        assert not root.exists() and not root.with_name("set.zip").exists()
        assert root.with_name("set.zip.damaged").read_bytes() == site.body
        site.body, site.etag = whole, f'"whole {number}"'
        assert obtain(root, site.url) == 2
        assert root.with_name("set.zip").read_bytes() == whole


def test_no_flipped_byte_ends_as_anything_but_a_data_error(tmp_path: Path) -> None:
    whole = archive("aa11", compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        listing = source.start_dir
    # Every byte of the listing and its end, and of both members' heads; of the pixels some.
    places = [*range(80), *range(80, listing, 997), *range(listing, len(whole))]
    for place in places:
        for mask in (0xFF, 0x0C):
            spoilt = whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :]
            (tmp_path / "a.zip").write_bytes(spoilt)
            with suppress(DataError):
                convert(tmp_path / "a.zip", tmp_path / "set" / f"{place}-{mask}")


def test_an_archive_that_its_checksum_vouches_for_is_not_downloaded_in_vain(site: Site, tmp_path: Path) -> None:
    site.body = b"PK no zip"
    with pytest.raises(DataError, match="the address serves it so"):
        obtain(tmp_path / "set", site.url, hashlib.sha256(site.body).hexdigest())
    assert (tmp_path / "set.zip").exists()


def test_without_a_checksum_the_first_archive_is_trusted_and_its_checksum_is_said(site: Site, tmp_path: Path) -> None:
    shown = io.StringIO()
    obtain(tmp_path / "set", site.url, console=Console(file=shown, width=60))
    assert SHA256 in shown.getvalue() and "Nobody vouched for it" in shown.getvalue()
    assert (tmp_path / "set.zip.sha256").read_text() == f"{SHA256}  set.zip\n"
    assert recorded(tmp_path / "set.zip") == SHA256


def test_what_is_fetched_later_must_be_what_was_trusted_first(site: Site, tmp_path: Path) -> None:
    obtain(tmp_path / "set", site.url)
    for path in (tmp_path / "set").rglob("*.*"):
        path.unlink()
    for name in ("images", "masks"):
        (tmp_path / "set" / name).rmdir()
    (tmp_path / "set.zip").unlink()
    shown = io.StringIO()
    obtain(tmp_path / "set", site.url, console=Console(file=shown))
    assert "vouched" not in shown.getvalue()
    (tmp_path / "set.zip").unlink()
    (tmp_path / "set").rename(tmp_path / "old")
    site.body, site.etag = archive("cc33"), '"v2"'
    with pytest.raises(DataError, match=r"set\.zip\.sha256 holds the checksum of the first download; remove it"):
        obtain(tmp_path / "set", site.url)
    assert not (tmp_path / "set").exists() and not (tmp_path / "set.zip").exists()
    obtain(tmp_path / "set", site.url, hashlib.sha256(site.body).hexdigest())
    assert recorded(tmp_path / "set.zip") == hashlib.sha256(site.body).hexdigest()


def test_a_checksum_that_is_given_is_not_excused_by_the_first_download(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing was kept") as refused:
        obtain(tmp_path / "set", site.url, "0" * 64)
    assert "first download" not in str(refused.value)
    assert recorded(tmp_path / "set.zip") is None


def test_a_record_that_is_no_checksum_is_not_passed_over(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.sha256").write_text("mine\n")
    for given in (None, SHA256):
        with pytest.raises(DataError, match="holds no checksum; move it"):
            obtain(tmp_path / "set", site.url, given)
    assert (tmp_path / "set.zip.sha256").read_text() == "mine\n"
    (tmp_path / "file").write_bytes(b"x")
    assert record(tmp_path / "file") == recorded(tmp_path / "file") == hashlib.sha256(b"x").hexdigest()


def test_an_address_that_anyone_can_answer_needs_a_checksum(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"http:// address .* --sha256"):
        obtain(tmp_path / "set", "http://example.org/a.zip")
    assert not list(tmp_path.iterdir())
    assert ADDRESS.startswith("https://") and ADDRESS.endswith("BBBC038/stage1_train.zip")


def test_every_address_that_a_redirect_leads_to_is_trusted_by_the_same_rule(site: Site, tmp_path: Path) -> None:
    elsewhere = site.url.replace("127.0.0.1", "127.0.0.2")
    site.redirects = [site.url, elsewhere]
    with pytest.raises(SettingsError, match=r"http:// address \(127\.0\.0\.2\) .* --sha256"):
        obtain(tmp_path / "set", site.url)
    # The redirect to this very machine was followed; the one to another was not asked.
    assert len(site.requests) == 2 and not (tmp_path / "set.zip").exists()
    site.redirects = [site.url]
    assert obtain(tmp_path / "set", site.url) == 2


def test_the_masks_of_an_archive_are_those_of_its_images(site: Site, tmp_path: Path) -> None:
    obtain(tmp_path / "set", site.url)
    mask = cv2.imread(str(tmp_path / "set/masks/aa11.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, blob())
