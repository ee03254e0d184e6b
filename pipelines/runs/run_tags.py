"""Tags of the MLflow run that made a version."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def tags_of(client: MlflowClient, run_id: str) -> dict[str, str]:
    """A run's tags; none where there is no such run any more."""
    try:
        return dict(client.get_run(run_id).data.tags) if run_id else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
