"""What was measured of a version later is found by its bytes and by the images, and by nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from records.database import open_database
from records.evaluations import find, keep
from resunet.errors import RecordsError

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_measurement_is_found_by_digest_and_fingerprint_and_replaced_by_a_later_one(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'records.db'}")
    keep(engine, "sha256:a", "sha256:test", "first", NOW)
    keep(engine, "sha256:a", "sha256:other", "other images", NOW)
    keep(engine, "sha256:b", "sha256:test", "other bytes", NOW)
    assert find(engine, "sha256:a", "sha256:test") == "first"
    keep(engine, "sha256:a", "sha256:test", "second", NOW)
    assert find(engine, "sha256:a", "sha256:test") == "second"
    assert find(engine, "sha256:a", "sha256:other") == "other images"
    assert find(engine, "sha256:c", "sha256:test") is None


def test_a_database_that_is_gone_says_so(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'records.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE evaluations")
    with pytest.raises(RecordsError, match="cannot be used"):
        find(engine, "sha256:a", "sha256:test")
