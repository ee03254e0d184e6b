"""A checkpoint is whole or not there, is refused in one sentence when it is damaged, and belongs to one process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from pipelines.training.checkpoint import claimed, read_checkpoint, write_checkpoint
from resunet.errors import DataError, SettingsError

CPU = torch.device("cpu")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "run.ckpt"
    write_checkpoint(path, {"step": 1})
    write_checkpoint(path, {"step": 8, "network": {"weight": torch.ones(2, 3)}})
    state = read_checkpoint(path, CPU)
    assert state["step"] == 8 and torch.equal(state["network"]["weight"], torch.ones(2, 3))
    assert [file.name for file in path.parent.iterdir()] == ["run.ckpt"]


@pytest.mark.parametrize("kept", [0, 1, 100, -100, -1])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    write_checkpoint(path, {"network": {"weight": torch.ones(50, 30)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"run\.ckpt is damaged \(\w+\); start a new run") as refused:
        read_checkpoint(path, CPU)
    assert "\n" not in str(refused.value)


def test_what_is_no_checkpoint_of_this_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(DataError, match="damaged"):
        read_checkpoint(tmp_path / "text.ckpt", CPU)
    torch.save({"settings": {}}, tmp_path / "old.ckpt")
    with pytest.raises(DataError, match="another release"):
        read_checkpoint(tmp_path / "old.ckpt", CPU)


def test_the_bytes_are_on_the_disk_before_they_get_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "run.ckpt", []
    fsync = os.fsync

    def watch(number: int) -> None:
        fsync(number)
        synced.append((os.fstat(number).st_ino, os.fstat(number).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", watch)
    write_checkpoint(path, {"step": 8})
    assert synced == [(path.stat().st_ino, path.stat().st_size, False)]


def test_a_run_that_another_process_trains_is_refused_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "0123abcd.ckpt"
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pipelines.training.checkpoint import claimed
        with claimed(Path(sys.argv[1])):
            print("claimed", flush=True)
            sys.stdin.read()
        """
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == b"claimed\n"
    with pytest.raises(SettingsError, match="0123abcd is being trained by another process"), claimed(path):
        raise AssertionError("never entered")
    other.kill()
    other.communicate()
    with claimed(path):
        pass


def test_a_claim_leaves_nothing_behind_once_the_checkpoint_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    with claimed(path):
        write_checkpoint(path, {"step": 1})
    with claimed(path):
        path.unlink()
    assert list(tmp_path.iterdir()) == []
