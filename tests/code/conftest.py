"""Fixtures that several modules of this folder share."""

from labelled_images import predictor, version
from records_databases import database_url, dead_url, postgres, postgres_url, url
from reported_versions import shelf, tables

__all__ = [
    "database_url",
    "dead_url",
    "postgres",
    "postgres_url",
    "predictor",
    "shelf",
    "tables",
    "url",
    "version",
]
