"""Fixtures that several modules of this folder share."""

from records_databases import database_url, postgres, postgres_url

__all__ = ["database_url", "postgres", "postgres_url"]
