"""The networks are those of the papers, and what is served of them depends on nothing but an image's own pixels."""

import copy

import pytest
import torch
from torch import Tensor, nn

from resunet.errors import SettingsError
from resunet.networks import ARCHITECTURES, SegmentationNetwork, build_network
from resunet.networks.blocks import ResidualUnit, RisingUnit
from resunet.networks.graph import EMBEDDING_SIZE, ServingGraph, normalise
from resunet.networks.served import ServedGraph, ServedStem

BOTH = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


def _lived_in(architecture: str, width: int = 4, classes: int = 1) -> SegmentationNetwork:
    """A network whose batch norms have statistics and scales of their own, as after training."""
    torch.manual_seed(7)
    network = build_network(architecture, width, classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def _pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _shape_of_each_level(network: SegmentationNetwork, images: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    with torch.no_grad():
        network.eval()(images)
    return shapes


def test_resunet_has_the_output_shapes_of_table_1() -> None:
    with torch.device("meta"):
        network = build_network("resunet", 64)
        shapes = _shape_of_each_level(network, torch.empty(1, 3, 224, 224))
    assert shapes["encoder1"] == (1, 64, 224, 224)
    assert shapes["encoder2"] == (1, 128, 112, 112)
    assert shapes["encoder3"] == (1, 256, 56, 56)
    assert shapes["bridge"] == (1, 512, 28, 28)
    assert shapes["decoder3"] == (1, 256, 56, 56)
    assert shapes["decoder2"] == (1, 128, 112, 112)
    assert shapes["decoder1"] == (1, 64, 224, 224)
    assert shapes["head"] == (1, 1, 224, 224)


def test_resunetpp_has_the_output_shapes_of_figure_2() -> None:
    with torch.device("meta"):
        network = build_network("resunetpp", 16)
        shapes = _shape_of_each_level(network, torch.empty(1, 3, 256, 256))
    assert shapes["encoder1"] == (1, 16, 256, 256)
    assert shapes["encoder4"] == (1, 128, 32, 32)
    assert shapes["bridge"] == (1, 256, 32, 32)
    assert shapes["decoder3"] == (1, 128, 64, 64)
    assert shapes["decoder2"] == (1, 64, 128, 128)
    assert shapes["decoder1"] == (1, 32, 256, 256)
    assert shapes["head"] == (1, 1, 256, 256)


def test_resunet_has_the_papers_parameters_and_its_projections() -> None:
    with torch.device("meta"):
        network = build_network("resunet", 64)
    projections = sum(_count(unit.shortcut) for unit in network.children() if hasattr(unit, "shortcut"))
    assert _count(network) / 1e6 == pytest.approx(8.2, abs=0.05)
    assert (_count(network) - projections) / 1e6 == pytest.approx(7.8, abs=0.05)


def test_resunetpp_has_the_authors_parameters() -> None:
    with torch.device("meta"):
        network = build_network("resunetpp", 16)
    assert _count(network) / 1e6 == pytest.approx(4.07, rel=0.01)


def test_an_unknown_architecture_or_width_is_refused() -> None:
    with pytest.raises(SettingsError, match="resunet, resunetpp"):
        build_network("unet", 16)
    with pytest.raises(SettingsError, match="at least 1"):
        build_network("resunet", 0)


def test_the_receptive_field_of_resunet_stays_within_its_halo() -> None:
    """Gradients of one output pixel, at each place in a stride, with nothing cut off by a ReLU or cancelled."""
    network = build_network("resunet", 1).eval()
    _without_relu(network)
    for weight in network.parameters():
        nn.init.constant_(weight, 0.1)
    side = 160
    reach = 0
    for offset in range(network.stride):
        images = torch.zeros(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        pixel = side // 2 + offset
        network.double()(images)[0, 0, pixel, pixel].backward()
        assert images.grad is not None
        touched = images.grad.abs().sum(dim=(0, 1)).nonzero()
        reach = max(reach, int((touched - pixel).abs().max()))
    assert network.halo is not None
    assert reach <= network.halo
    assert reach == 44  # what the halo was rounded up from


def _without_relu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.Identity())
        _without_relu(child)


def test_a_network_that_looks_at_the_whole_image_has_no_halo() -> None:
    network = _lived_in("resunetpp")
    images = torch.randn(1, 3, 96, 96)
    elsewhere = images.clone()
    elsewhere[..., 88:] += 3
    with torch.no_grad():
        moved = (network(images) - network(elsewhere))[..., :8].abs().max()
    assert moved > 0
    assert network.halo is None


@BOTH
@pytest.mark.parametrize(("height", "width"), [(97, 131), (16, 16), (17, 50), (40, 24)])
def test_any_size_gives_probabilities_of_that_size(architecture: str, height: int, width: int) -> None:
    graph = ServingGraph(_lived_in(architecture), 1).eval()
    with torch.no_grad():
        probabilities, embedding = graph(_pixels(2, height, width))
    assert probabilities.shape == (2, 1, height, width)
    assert embedding.shape == (2, EMBEDDING_SIZE)
    assert probabilities.min() >= 0 and probabilities.max() <= 1


def test_padding_repeats_the_border_and_changes_nothing_else() -> None:
    graph = ServingGraph(_lived_in("resunet"), 1).eval()
    image = _pixels(1, 21, 30)
    by_hand = torch.cat([image, image[:, -1:].expand(-1, 3, -1, -1)], dim=1)
    by_hand = torch.cat([by_hand, by_hand[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    with torch.no_grad():
        torch.testing.assert_close(graph(image)[0], graph(by_hand)[0][..., :21, :30], atol=1e-6, rtol=0)


@BOTH
def test_an_answer_does_not_depend_on_the_other_images_of_a_batch(architecture: str) -> None:
    graph = ServingGraph(_lived_in(architecture), 1).eval()
    images = torch.cat([_pixels(1, 40, 40), torch.full((1, 40, 40, 3), 255, dtype=torch.uint8)])
    with torch.no_grad():
        torch.testing.assert_close(graph(images)[0][:1], graph(images[:1])[0], atol=1e-6, rtol=0)


def test_normalisation_does_not_depend_on_the_rest_of_the_image() -> None:
    image = _pixels(1, 160, 160)
    other = image.clone()
    other[:, :, 112:] = 255  # 112 - 48: beyond the halo of the columns that are compared
    graph = ServingGraph(_lived_in("resunet"), 1).eval()
    with torch.no_grad():
        one, two = graph(image)[0], graph(other)[0]
    torch.testing.assert_close(one[..., :64], two[..., :64], atol=1e-6, rtol=0)
    assert not torch.allclose(one[..., 112:], two[..., 112:])
    levels = normalise(torch.tensor([0.0, 127.5, 255.0]))
    assert levels.tolist() == [-2.0, 0.0, 2.0]


@BOTH
def test_probabilities_of_several_classes_sum_to_one(architecture: str) -> None:
    graph = ServingGraph(_lived_in(architecture, classes=4), 4).eval()
    with torch.no_grad():
        probabilities = graph(_pixels(1, 33, 24))[0]
    assert probabilities.shape == (1, 4, 33, 24)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1, 33, 24))


@BOTH
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16 in channels_last"])
def test_training_learns_what_it_would_of_the_upsampled_maps_that_it_does_not_build(
    architecture: str, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _lived_in(architecture, width=6).train()
    layout = torch.channels_last if half else torch.contiguous_format
    near: dict[str, float] = {"atol": 0.15, "rtol": 0.05} if half else {"atol": 1e-4, "rtol": 1e-4}
    units = [unit for unit in network.modules() if isinstance(unit, RisingUnit)]
    assert len(units) == 3
    for unit in units:
        unit.to(memory_format=layout)  # type: ignore[call-overload]  # not in the stubs
        plain = copy.deepcopy(unit)
        height, width = 9, 14
        channels = unit.body[0][0].num_features  # type: ignore[index, union-attr]
        sizes = (unit.deep, height, width), (channels - unit.deep, 2 * height, 2 * width)
        deep, skip = (torch.randn(3, *size).to(memory_format=layout).requires_grad_() for size in sizes)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            both = torch.cat([nn.functional.interpolate(deep, scale_factor=2, mode="nearest"), skip], dim=1)
            wanted = plain.body(both) + plain.shortcut(both)
            with monkeypatch.context() as patch:
                patch.setattr(torch, "cat", None)
                found = unit(deep, skip)
        torch.testing.assert_close(found, wanted, **near)
        weights = torch.randn_like(wanted)
        slopes = [
            torch.autograd.grad((total * weights).sum(), [deep, skip, *module.parameters()])
            for module, total in ((unit, found), (plain, wanted))
        ]
        for ours, theirs in zip(*slopes, strict=True):
            # Each is a sum of thousands of terms. In bf16 both forms are about 4 % from what fp32 gives.
            assert (ours - theirs).norm() <= (0.1 if half else 1e-4) * theirs.norm() + 1e-3
        # The pixels that a variance is corrected for are a quarter: 3 * 9 * 14 of them.
        for name, value in unit.named_buffers():
            torch.testing.assert_close(value, plain.get_buffer(name), atol=2e-2 if half else 1e-5, rtol=1e-3)


@pytest.mark.parametrize("step", [1, 2])
def test_a_unit_that_downsamples_learns_what_a_strided_shortcut_would(step: int) -> None:
    torch.manual_seed(2)
    unit = ResidualUnit(16, 24, step).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = copy.deepcopy(unit)
    images = torch.randn(2, 16, 12, 20, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    one, other = (images.clone().requires_grad_() for _ in range(2))
    # Beside the unit its input has another reader, as a decoder's skip is.
    (unit(one).square().sum() + one.sin().sum()).backward()
    ((plain.body(other) + plain.shortcut(other)).square().sum() + other.sin().sum()).backward()
    torch.testing.assert_close(one.grad, other.grad)
    for (name, mine), its in zip(unit.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, msg=name)
    torch.testing.assert_close(unit.state_dict(), plain.state_dict())


@pytest.mark.parametrize(("architecture", "unit"), [("resunet", "decoder1"), ("resunetpp", "decoder1.0")])
def test_weights_have_the_names_by_which_earlier_versions_are_read(architecture: str, unit: str) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    body = [f"body.{place}.{part}" for place in (0, 1) for part in (*(f"0.{name}" for name in norm), "2.weight")]
    shortcut = ["shortcut.0.weight", *(f"shortcut.1.{name}" for name in norm)]
    found = [name for name in build_network(architecture, 4).state_dict() if name.startswith(f"{unit}.")]
    assert found == [f"{unit}.{name}" for name in (*body, *shortcut)]


@BOTH
@pytest.mark.parametrize("classes", [1, 3])
def test_the_served_form_gives_the_trained_networks_answer(architecture: str, classes: int) -> None:
    network = _lived_in(architecture, width=6, classes=classes)
    images = _pixels(2, 41, 50)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        probabilities, embedding = ServingGraph(network, classes).eval()(images)
        served_probabilities, served_embedding = ServedGraph(network, classes)(images)
    torch.testing.assert_close(served_probabilities, probabilities, atol=2e-5, rtol=0)
    torch.testing.assert_close(served_embedding, embedding, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_served_stem_loses_nothing_to_bfloat16() -> None:
    """Its input and the halves of its weights survive the rounding that an engine applies to them."""
    graph = ServedGraph(_lived_in("resunet"), 1)
    levels = graph.scaled(torch.arange(256.0))
    assert torch.equal(levels.bfloat16().float(), levels)
    stem = graph.network.encoder1
    assert isinstance(stem, ServedStem)
    rounded = stem.weight.bfloat16().float()
    coarse, rest = stem.weight.chunk(2, dim=1)
    error = (rounded.chunk(2, dim=1)[0] + rounded.chunk(2, dim=1)[1] - coarse - rest).abs().max()
    assert error < 2**-16 * float(stem.weight.detach().abs().max())
