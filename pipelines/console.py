"""The `resunet` command: every folder's commands under one name."""

import typer

from monitoring.cli import app as monitoring
from pipelines.cli import app as pipelines
from pipelines.status import status
from records.cli import app as records
from records.console import run
from registry.cli import app as registry
from serving.cli import app as serving
from serving.cli import up

app = typer.Typer(
    no_args_is_help=True,
    help="A segmentation model from a folder of images to a served, watched, replaceable Production version.",
)
app.add_typer(pipelines, name="pipelines")
app.add_typer(registry, name="registry")
app.add_typer(serving, name="serving")
app.add_typer(monitoring, name="monitoring")
app.add_typer(records, name="records")
# What people type most, under the name that they look for.
app.command("serve")(up)
# Of all folders, so it is in none of them.
app.command()(status)


def main() -> None:
    """Entry point of the console script."""
    run(app)
