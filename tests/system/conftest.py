"""Fixtures that several modules of this folder share."""

from drift_scene import report, scene, store
from promotion_desk import desk
from train_scene import pair

__all__ = ["desk", "pair", "report", "scene", "store"]
