"""What learns: a network, its optimiser and the average of its weights, on Lightning Fabric.

    learner = Learner(FitSettings(width=16))
    loss = learner.step(images, masks, learning_rate=1e-3)      # (N, H, W, 3) uint8, (N, H, W) uint8
    learner.centre_dice(validation, range(len(validation)))

It knows one step; when to take it, to validate and to stop is `fit`'s.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_model
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipelines.training.batches import PixelsByIndex
from pipelines.training.held_out import centre, predicted_classes
from pipelines.training.kernels import KernelMatrices
from pipelines.training.muon import GramMuon
from pipelines.training.precision import chosen_precision
from pipelines.training.settings import FitSettings
from resunet.errors import DataError
from resunet.losses import segmentation_loss
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork, build_network
from resunet.networks.graph import ServingGraph, normalise

# Muon's steps have a size of their own (Jordan et al. take 0.02): beside AdamW's 0.004, five times as large.
KERNEL_RATE = 5.0

Tensors = tuple[Tensor, ...] | list[Tensor]
Weights = dict[str, Tensor]


class Learner:
    """A network in training.

    Args:
        settings: of the run.
        initial: safetensors of another version of the same shape, to start from instead of random weights.

    Raises:
        DataError: the initial weights are of another shape.
    """

    def __init__(self, settings: FitSettings, initial: Path | None = None) -> None:
        self._settings = settings
        self.precision = chosen_precision(settings.precision)
        self._fabric = Fabric(devices=1, precision="bf16-mixed" if self.precision == "bf16" else "32-true")
        self.device: torch.device = self._fabric.device
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            network = self._new_network()
        if initial is not None:
            load_weights(network, initial)
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
        self._kernels = KernelMatrices(network)
        decay = settings.weight_decay
        self._muon = GramMuon(self._kernels.matrices, settings.learning_rate, weight_decay=decay)
        optimizer = torch.optim.AdamW(
            self._kernels.others(network), settings.learning_rate, weight_decay=decay, fused=True
        )
        self._averaged = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._network, self._optimizer = self._fabric.setup(network, optimizer)
        self._averaged.to(self.device)

    def _new_network(self) -> SegmentationNetwork:
        return build_network(self._settings.architecture, self._settings.width, 3, self._settings.classes)

    def step(self, images: Tensor, masks: Tensor, learning_rate: float) -> float:
        """Learn from a batch; its loss comes back.

        Args:
            images: (N, H, W, 3) uint8.
            masks: (N, H, W) uint8 class indices.
            learning_rate: of this step, AdamW's; that of hidden kernels is `KERNEL_RATE` times as large.

        Raises:
            FloatingPointError: the loss or its gradient is no longer a number; no weight was changed.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        for group in self._muon.param_groups:
            group["lr"] = learning_rate * KERNEL_RATE
        self._network.train()
        pixels = normalise(images.to(self.device).permute(0, 3, 1, 2).float())
        logits = self._network(pixels.contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(logits, masks.to(self.device).long())
        self._fabric.backward(loss)
        # Of AdamW's parameters alone. A hidden kernel needs none: Muon makes a step of one size of any gradient.
        norm = self._fabric.clip_gradients(
            self._network, self._optimizer, max_norm=self._settings.clip_norm, error_if_nonfinite=False
        )
        told, slope = float(loss.detach()), float(cast(Tensor, norm))
        if not math.isfinite(told):
            raise FloatingPointError(f"the loss is {told}")
        if not math.isfinite(slope):
            raise FloatingPointError(f"the loss is {told:.4g}, the norm of its gradient {slope}")
        self._optimizer.step()
        self._kernels.take_gradients()
        self._muon.step()
        self._network.zero_grad()
        self._averaged.update_parameters(self._network.module)
        return told

    def _average(self, averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        """Exponential moving average whose decay grows with the number of steps taken."""
        steps = int(count)
        decay = min(self._settings.ema_decay, (1 + steps) / (10 + steps))
        # Torch hands over one data type at a time: weights, or the counters of batch norms.
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)

    def centre_dice(self, images: PixelsByIndex, indices: Iterable[int]) -> float:
        """Mean Dice of the averaged weights on the centres of these images."""
        averaged = cast(SegmentationNetwork, self._averaged.module)
        graph = ServingGraph(averaged, self._settings.classes).eval().to(self.device)
        scores = []
        with torch.inference_mode(), self._fabric.autocast():
            for index in indices:
                rgb, mask = (centre(part, self._settings.evaluation_side) for part in images[index])
                scores.append(dice(predicted_classes(graph, rgb, self.device), mask))
        return float(np.mean(scores))

    def averaged_weights(self) -> Weights:
        """A copy of the averaged weights as they are now."""
        return {name: value.clone() for name, value in self._averaged.module.state_dict().items()}

    def network_of(self, weights: Weights) -> SegmentationNetwork:
        """A network with these weights, on the CPU in float32, ready to predict."""
        network = self._new_network()
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        )
        return network.eval()

    def state(self) -> dict[str, Any]:
        """All that a checkpoint has to hold of it."""
        return {
            "network": self._network.module.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "muon": self._muon.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._network.module.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._muon.load_state_dict(state["muon"])


def load_weights(network: SegmentationNetwork, path: Path) -> None:
    """Load a version's safetensors into a network of the same shape.

    Raises:
        DataError: the file holds another architecture, width or number of classes.
    """
    try:
        load_model(network, path)
    except RuntimeError as error:
        raise DataError(
            "the weights to start from are of another architecture, width or number of classes; give the same "
            "--architecture and --width as that version, or train without a parent"
        ) from error
