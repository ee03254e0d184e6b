"""`python -m monitoring`."""

from monitoring.cli import app
from records.console import run

run(app)
