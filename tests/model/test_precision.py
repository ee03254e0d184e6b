"""`auto` computes in bf16 where that is faster, and in fp32 elsewhere."""

from collections.abc import Iterator

import pytest
import torch

from pipelines.training import precision


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    precision.bf16_pays.cache_clear()
    yield
    precision.bf16_pays.cache_clear()


def _processor(monkeypatch: pytest.MonkeyPatch, **has: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)


def _takes(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> list[torch.dtype]:
    timed: list[torch.dtype] = []

    def seconds(work: object) -> float:
        kind = work.args[0].dtype  # type: ignore[attr-defined]
        timed.append(kind)
        return bf16 if kind is torch.bfloat16 else fp32

    monkeypatch.setattr(precision, "_seconds", seconds)
    return timed


@pytest.mark.parametrize(("bf16", "chosen"), [(1.8, "fp32"), (0.5, "bf16")])
def test_a_processor_with_avx512_bf16_alone_is_timed(bf16: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch, avx512_bf16=True)
    timed = _takes(monkeypatch, 1.0, bf16)
    assert precision.chosen_precision("auto") == chosen
    assert set(timed) == {torch.float32, torch.bfloat16}
    timed.clear()
    assert precision.chosen_precision("auto") == chosen and not timed


@pytest.mark.parametrize(("real", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_computes_in_bf16_unless_it_only_imitates_it(
    real: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or real)
    timed = _takes(monkeypatch, 1.0, 2.0)
    assert precision.chosen_precision("auto") == chosen and not timed


def test_without_bf16_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch)
    timed = _takes(monkeypatch, 1.0, 0.1)
    assert precision.chosen_precision("auto") == "fp32" and not timed


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch, avx512_bf16=True)
    timed = _takes(monkeypatch, 1.0, 1.0)
    assert precision.chosen_precision(asked) == asked and not timed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_can_be_timed_here(dtype: torch.dtype) -> None:
    work = precision._convolution(dtype)
    assert precision._seconds(work) > 0 and work().dtype == dtype
