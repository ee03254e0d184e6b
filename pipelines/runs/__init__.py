"""Trainings as MLflow runs: what they log, and the versions that they register."""
