"""`python -m records`."""

from records.cli import app
from records.console import run

run(app)
