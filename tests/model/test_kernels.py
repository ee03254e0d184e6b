"""Hidden kernels as matrices: the same memory, the right gradients, and every parameter with one optimiser."""

import pytest
import torch

from pipelines.training.kernels import KernelMatrices
from resunet.networks import SegmentationNetwork, build_network


def network(architecture: str = "resunet") -> SegmentationNetwork:
    torch.manual_seed(0)
    built = build_network(architecture, 4)
    return built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("architecture", ["resunet", "resunetpp"])
def test_every_parameter_is_a_hidden_kernel_or_one_of_the_others(architecture: str) -> None:
    built = network(architecture)
    kernels = KernelMatrices(built)
    hidden, others = {id(one) for one in kernels.kernels}, {id(one) for one in kernels.others(built)}
    assert hidden.isdisjoint(others)
    assert hidden | others == {id(one) for one in built.parameters()}
    convolutions = [one for one in built.parameters() if one.ndim == 4]
    first, last = convolutions[0], convolutions[-1]
    assert {id(first), id(last)} <= others and len(hidden) > len(convolutions) / 2


def test_a_step_on_the_matrices_is_a_step_of_the_network() -> None:
    built = network()
    kernels = KernelMatrices(built)
    images = torch.rand(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    built(images).square().mean().backward()
    before = [kernel.detach().clone() for kernel in kernels.kernels]
    kernels.take_gradients()
    torch.optim.SGD(kernels.matrices, lr=0.5).step()
    for kernel, old in zip(kernels.kernels, before, strict=True):
        assert kernel.grad is not None and kernel.grad.abs().sum() > 0
        torch.testing.assert_close(kernel.detach(), old - 0.5 * kernel.grad)


def test_weights_that_are_loaded_later_are_in_the_matrices_too() -> None:
    built = network()
    kernels = KernelMatrices(built)
    built.load_state_dict({name: torch.zeros_like(value) for name, value in built.state_dict().items()})
    assert all(matrix.abs().sum() == 0 for matrix in kernels.matrices)


def test_a_network_in_another_memory_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="channels_last"):
        KernelMatrices(build_network("resunet", 4))
