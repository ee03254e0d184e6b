"""MLflow keeps its servers and the experiment that is active in module globals and in the environment: who changes them
puts them back.

with mlflow_state_kept():
    mlflow.set_tracking_uri(url)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.tracking import fluent
from mlflow.tracking._model_registry import utils as registry_state
from mlflow.tracking._tracking_service import utils as tracking_state


@contextmanager
def mlflow_state_kept() -> Iterator[None]:
    """What the block sets, it sets for itself alone."""
    uris = tracking_state._tracking_uri, registry_state._registry_uri
    experiment = fluent._active_experiment_id
    variables = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    try:
        yield
    finally:
        tracking_state._tracking_uri, registry_state._registry_uri = uris
        fluent._active_experiment_id = experiment
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            del os.environ[name]
        os.environ.update(variables)
