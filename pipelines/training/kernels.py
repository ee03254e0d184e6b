"""The kernels of hidden convolutions as matrices, for an optimiser that works on matrices (`muon.py`).

    kernels = KernelMatrices(network)
    optimizer = GramMuon(kernels.matrices, lr=0.02, weight_decay=0.01)
    loss.backward()
    kernels.take_gradients()
    optimizer.step()            # changes the network: the memory is the same

A kernel (out, in, h, w) is the matrix (out, h · w · in) that a convolution multiplies patches by. Muon steps along the
orthogonalised momentum, so that all directions of such a matrix are learnt at one pace (Jordan et al., Muon: An
optimizer for hidden layers in neural networks, 2024). First and last layers, biases and norms are no such matrices.
"""

from typing import Final

from torch import Tensor, nn

from resunet.networks import SegmentationNetwork

IMAGE_CHANNELS: Final = 3


class KernelMatrices:
    """Matrices that share the memory of a network's hidden kernels.

    Args:
        network: on its device and in channels_last already: a network that is moved later leaves its matrices behind.

    Attributes:
        kernels: (out, in, h, w), those that the matrices stand for.
        matrices: (out, h · w · in), in the same order.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        kernels = [weight for weight in network.parameters() if weight.ndim == 4]
        # All but those that read the image's own channels, and the last one, which gives the answer.
        self.kernels = [kernel for kernel in kernels[:-1] if kernel.shape[1] != IMAGE_CHANNELS]
        self.matrices = [nn.Parameter(_matrix(kernel.detach())) for kernel in self.kernels]
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            if kernel.data_ptr() != matrix.data_ptr():
                raise ValueError(f"a kernel of {tuple(kernel.shape)} is not in channels_last: its matrix is a copy")

    def take_gradients(self) -> None:
        """Show the kernels' gradients to the matrices."""
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)

    def others(self, network: SegmentationNetwork) -> list[nn.Parameter]:
        """The parameters of the same network that are no hidden kernels."""
        hidden = {id(kernel) for kernel in self.kernels}
        return [parameter for parameter in network.parameters() if id(parameter) not in hidden]


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)
