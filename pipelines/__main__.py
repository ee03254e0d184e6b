"""`python -m pipelines …`"""

from pipelines.cli import app
from records.console import run

run(app)
