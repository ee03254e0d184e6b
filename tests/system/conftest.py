"""Fixtures that several modules of this folder share."""

from browser import browser
from drift_scene import report, scene, store
from gateway_scene import gateway, gateway_registry
from guard_scenes import doors, kept
from guarded_desk import guarded, mlflow_tables
from guarded_server import gate_server
from promotion_desk import desk
from records_databases import postgres, postgres_url
from train_scene import pair

__all__ = [
    "browser",
    "desk",
    "doors",
    "gate_server",
    "gateway",
    "gateway_registry",
    "guarded",
    "kept",
    "mlflow_tables",
    "pair",
    "postgres",
    "postgres_url",
    "report",
    "scene",
    "store",
]
