"""One step: whose gradient is clipped, at what rate it is taken, what is averaged, what it computes in."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from small_training import blobs, fit_small, same_weights, small_settings
from torch import Tensor, nn

from pipelines.training import learner, precision
from resunet.networks.blocks import RisingUnit


def test_weights_are_averaged_over_steps() -> None:
    assert not same_weights(fit_small(small_settings(ema_decay=0.9)), fit_small(small_settings(ema_decay=0)))


def _a_batch() -> tuple[Tensor, Tensor]:
    images, masks = zip(*map(blobs, range(4)), strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))


def test_what_is_kept_is_the_moving_average_of_the_weights() -> None:
    learns = learner.Learner(small_settings(ema_decay=0.35, precision="fp32"))
    expected: dict[str, Tensor] = {}
    for taken in range(8):
        learns.step(*_a_batch(), 0.01)
        # The first is taken as it is; then the past counts 2/11, 3/12 ... until that reaches 0.35.
        past = min(0.35, (1 + taken) / (10 + taken)) if taken else 0.0
        for name, now in learns.state()["network"].items():
            averaged = taken and now.is_floating_point()
            expected[name] = past * expected[name] + (1 - past) * now if averaged else now.clone()
    found = learns.averaged_weights()
    assert found.keys() == expected.keys()
    for name, mean in expected.items():
        torch.testing.assert_close(found[name], mean, rtol=1e-4, atol=1e-6)
    assert not torch.equal(found["head.weight"], learns.state()["network"]["head.weight"])


def _moved(rate: float) -> dict[str, Tensor]:
    learns = learner.Learner(small_settings(precision="fp32"))
    start = {name: value.detach().clone() for name, value in learns._network.module.named_parameters()}
    learns.step(*_a_batch(), rate)
    return {name: value.detach() - start[name] for name, value in learns._network.module.named_parameters()}


def test_a_step_is_as_long_as_its_learning_rate_says() -> None:
    once, twice = _moved(1e-4), _moved(2e-4)
    for name, way in once.items():
        assert way.abs().sum() > 0
        torch.testing.assert_close(twice[name], 2 * way, rtol=2e-2, atol=1e-7)
    assert all(way.abs().sum() == 0 for way in _moved(0.0).values())


def test_a_hidden_kernel_steps_five_times_as_far_as_adamw_in_every_direction() -> None:
    moved = _moved(1e-3)
    kernel = moved["bridge.body.1.2.weight"]
    sizes = torch.linalg.svdvals(kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1))
    assert 0.5 * 5e-3 < sizes.median() < 1.3 * 5e-3 and sizes.max() < 1.3 * 5e-3
    # AdamW's first step is the rate itself, whatever the gradient; weight decay is small beside it.
    assert float(moved["head.bias"].abs()) == pytest.approx(1e-3, rel=0.05)


def test_gradients_are_clipped() -> None:
    assert not same_weights(fit_small(small_settings(clip_norm=1e-7)), fit_small(small_settings(clip_norm=1e7)))


def test_only_the_gradient_that_adamw_is_given_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[tuple[float, float]] = []
    for clip in (1e-3, 1e9):
        learns = learner.Learner(small_settings(clip_norm=clip, precision="fp32"))
        kernels, others = learns._kernels, learns._kernels.others(learns._network.module)
        monkeypatch.setattr(
            learns._muon,
            "step",
            lambda kernels=kernels, others=others: norms.append(
                (_gradient_norm(kernels.matrices), _gradient_norm(others))
            ),
        )
        learns.step(*_a_batch(), 0.01)
    (hidden, clipped), (whole, free) = norms
    assert hidden == whole > 1e-2 and clipped == pytest.approx(1e-3, rel=1e-3) and free > 1e-2


def _gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def test_a_gradient_that_is_no_number_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    learns = learner.Learner(small_settings())
    before = learns.averaged_weights()
    # The root of nothing has no slope: a loss of 0 whose gradient is no number.
    monkeypatch.setattr(learner, "segmentation_loss", lambda logits, wanted: (logits * 0).sum().sqrt())
    with pytest.raises(FloatingPointError, match=r"the loss is 0, the norm of its gradient nan"):
        learns.step(*_a_batch(), 0.01)
    state = learns.state()
    assert all(
        torch.equal(value, state["network"][name])
        for name, value in before.items()
        if "running" not in name and "tracked" not in name
    )


@pytest.mark.parametrize(
    ("supported", "pays", "computed"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_it_computes_in_channels_last_and_in_bf16_where_the_processor_is_faster_at_it(
    supported: bool, pays: bool, computed: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_supported", lambda: supported)
    monkeypatch.setattr(precision, "bf16_pays", lambda: pays)
    seen: list[tuple[torch.dtype, bool, bool]] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, RisingUnit) and module.training:  # some of its convolutions are no modules
            formats = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, output)]
            seen.append((output.dtype, all(formats[:2]), formats[2]))
        # Of a 1x1 kernel both formats are the same.
        if isinstance(module, nn.Conv2d) and module.training and module.kernel_size == (3, 3):
            formats = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (inputs[0], module.weight)]
            seen.append((output.dtype, formats[0], formats[1]))

    hook = nn.modules.module.register_module_forward_hook(look)  # type: ignore[arg-type]
    try:
        fitted = fit_small(small_settings(max_steps=1, precision="auto"))
    finally:
        hook.remove()
    assert len(seen) > 10 and set(seen) == {(computed, True, True)}
    assert fitted.precision == ("bf16" if supported and pays else "fp32")
