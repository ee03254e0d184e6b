from records.console import run
from serving.cli import app

run(app)
