"""Fixtures that several modules of this folder share."""

from labelled_images import predictor, version
from performance_scene import mlflow_store, watched, watched_lite
from records_databases import database_url, dead_url, postgres, postgres_url, url
from reported_versions import shelf, tables

__all__ = [
    "database_url",
    "dead_url",
    "mlflow_store",
    "postgres",
    "postgres_url",
    "predictor",
    "shelf",
    "tables",
    "url",
    "version",
    "watched",
    "watched_lite",
]
