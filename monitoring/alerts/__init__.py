"""Policies: what is worth telling somebody, and the telling of it once."""
