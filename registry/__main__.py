from records.console import run
from registry.cli import app

run(app)
