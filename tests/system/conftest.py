"""Fixtures that several modules of this folder share."""

from train_scene import pair

__all__ = ["pair"]
