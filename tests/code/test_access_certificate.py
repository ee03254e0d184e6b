"""A certificate that cannot be served with is told in a sentence, before anything is started."""

from pathlib import Path

import pytest
from certificate_files import write_certificate

from resunet.errors import SettingsError
from serving.access.certificate import check_certificate


def test_a_chain_with_its_key_will_do_in_one_file_or_two(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    check_certificate(certificate, key)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    check_certificate(both, None)
    check_certificate(None, None)


def test_what_will_not_do_is_told(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    _, other = write_certificate(tmp_path / "other")
    _, locked = write_certificate(tmp_path / "locked", password=b"secret")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for given, told in (
        ((None, key), "no certificate"),
        ((tmp_path / "none.pem", key), "is no file"),
        ((certificate, tmp_path / "none.pem"), "is no file"),
        ((certificate, other), "belongs to it"),
        ((certificate, None), "belongs to it"),
        ((nonsense, key), "as PEM"),
        ((certificate, locked), "encrypted"),
    ):
        with pytest.raises(SettingsError, match=told):
            check_certificate(*given)
