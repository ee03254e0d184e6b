"""Versions that are kept on a machine: of which place the last good one is, and what is deleted."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE

import pytest
from owner_scene import FOUR, ONE, PRODUCTION, STAGING, THREE, TWO, OwnerScene, Store, store

from resunet.errors import StoreError, VersionError
from serving.gateway.cache import VersionCache
from serving.gateway.releases import Registry, Release

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
CHAMPION = "models:/resunet@champion"
# A process that pins a folder and then waits.
_PIN = """
import sys
from pathlib import Path
from serving.gateway.cache import VersionCache
cache = VersionCache(Path(sys.argv[1]), None)
cache.pin("candidate", Path(sys.argv[2]))
print("pinned", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path) -> VersionCache:
    return VersionCache(tmp_path, None)


def test_gateways_of_two_places_on_one_machine_come_up_each_with_its_own_version(tmp_path: Path) -> None:
    production, staging = OwnerScene(tmp_path, keep=1), OwnerScene(tmp_path, STAGING, keep=1)
    production.live(ONE).look()
    for release in (TWO, THREE):
        staging.live(release).look()
    for scene, release in ((production, ONE), (staging, THREE)):
        scene.place.away = True
        assert scene.restart().look().serving == release
    assert not production.copy_of(TWO).exists()


def test_the_last_good_version_is_of_a_place(cache: VersionCache) -> None:
    for place, release in ((PRODUCTION, ONE), (STAGING, TWO), (CHAMPION, THREE)):
        cache.fetch(release)
        cache.keep_as_last_good(place, release)
    again = VersionCache(cache.fetch(ONE).parent, None)
    found = [again.last_good(place) for place in (PRODUCTION, STAGING, CHAMPION, "models:/resunet/3")]
    assert [kept and kept[0] for kept in found] == [ONE, TWO, THREE, None]


def test_however_a_stage_is_spelt_it_is_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody is asked
    assert Registry("models:/resunet/production").uri == PRODUCTION
    assert Registry(CHAMPION).uri == CHAMPION and Registry("models:/resunet/3").uri == "models:/resunet/3"


def test_what_an_earlier_release_kept_is_of_production(cache: VersionCache, tmp_path: Path) -> None:
    folder = cache.fetch(ONE)
    (tmp_path / "last_good.json").write_text(json.dumps(asdict(ONE)))
    assert cache.last_good(PRODUCTION) == (ONE, folder)
    assert cache.last_good(STAGING) is cache.last_good(CHAMPION) is None
    assert cache.last_good("models:/another/Production") is None
    cache.fetch(TWO)
    cache.keep_as_last_good(STAGING, TWO)
    assert cache.last_good(PRODUCTION) == (ONE, folder)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '{"registered_ms": 1}', '{"models:/resunet/Production": 3}'])
def test_a_damaged_note_of_the_last_good_version_is_none(cache: VersionCache, tmp_path: Path, content: str) -> None:
    (tmp_path / "last_good.json").write_text(content)
    assert cache.last_good(PRODUCTION) is None
    folder = cache.fetch(ONE)
    cache.keep_as_last_good(PRODUCTION, ONE)
    assert cache.last_good(PRODUCTION) == (ONE, folder)


def test_a_last_good_version_whose_folder_is_gone_is_none(cache: VersionCache) -> None:
    cache.keep_as_last_good(PRODUCTION, ONE)
    assert cache.last_good(PRODUCTION) is None


def test_what_is_pruned_is_neither_new_nor_in_use_nor_anybody_s_last_good(cache: VersionCache, tmp_path: Path) -> None:
    releases = [ONE, TWO, THREE, FOUR, Release("resunet", "5", 5), Release("resunet", "6", 6)]
    folders = [cache.fetch(release) for release in releases]
    cache.keep_as_last_good(STAGING, ONE)
    cache.pin("candidate", folders[1])
    (tmp_path / "incoming-resunet-7-7+0123").mkdir()
    cache.prune(1, {folders[2]})
    left = {path for path in tmp_path.iterdir() if path.is_dir() and path.name not in (".locks", ".pins")}
    assert left == {folders[0], folders[1], folders[2], folders[5]}
    cache.unpin("candidate")
    cache.keep_as_last_good(STAGING, THREE)
    cache.prune(1, set())
    assert not folders[0].exists() and not folders[1].exists() and folders[2].exists()


def test_what_another_process_has_pinned_stays_as_long_as_that_lives(cache: VersionCache, tmp_path: Path) -> None:
    candidate = cache.fetch(ONE)
    other = subprocess.Popen(
        [sys.executable, "-c", _PIN, str(tmp_path), str(candidate)], stdin=PIPE, stdout=PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "pinned\n"
    try:
        cache.prune(0, set())
        assert candidate.is_dir()
    finally:
        other.kill()
        other.communicate()
    cache.prune(0, set())
    assert not candidate.exists() and not list((tmp_path / ".pins").iterdir())


def test_a_copy_that_was_changed_is_fetched_anew_where_that_is_possible(cache: VersionCache, store: Store) -> None:
    folder = cache.fetch(ONE)
    (folder / "graph").write_text("something else")
    with pytest.raises(VersionError, match="graph"):
        cache.verify(folder)
    assert (cache.fetch(ONE) / "graph").read_text() == ONE.uri
    store.away = "ConnectionError"
    assert cache.fetch(ONE) == folder  # nothing has to be fetched
    with pytest.raises(StoreError):
        cache.fetch(TWO)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()].count(folder.name) == 1
