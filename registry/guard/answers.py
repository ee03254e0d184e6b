"""This platform's errors in MLflow's shape, so that its clients and its UI show them."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import SQLAlchemyError

from resunet.errors import RecordsError, ResunetError, SettingsError, StoreError

# Not what follows a scheme, as in `models:/name`.
_PATH: Final = re.compile(r"(?<![\w:/.])/(?:[^\s/,;:'\"()]+/)+([^\s/,;:'\"()]*)")

_log = logging.getLogger(__name__)


@contextmanager
def told_as_mlflow() -> Iterator[None]:
    """Raise `MlflowException` where the block raises anything else.

    A refusal is 400 with the gates in its message; a wrong parameter 400; a database or store that is away 503. What
    nobody foresaw is 500: the server's log has it, the answer has neither its text nor its place in the code.
    """
    try:
        yield
    except ResunetError as error:
        raise _told(error) from error
    except MlflowException as error:
        if isinstance(error.__cause__, ResunetError):  # raised in one of MLflow's transactions, which wrap it
            raise _told(error.__cause__) from error
        if not isinstance(error.__cause__, SQLAlchemyError):
            raise
        # MLflow would answer the statement and its parameters.
        _log.exception("the registry's database")
        told = "the registry's database refuses or does not answer: see the server's log, and try again"
        raise MlflowException(told, TEMPORARILY_UNAVAILABLE) from None
    except Exception:
        _log.exception("not foreseen")
        told = "the server met an error that it did not foresee, and decided nothing: its log says more"
        raise MlflowException(told, INTERNAL_ERROR) from None


def without_places(text: str) -> str:
    """A message without where things are on this server's disk: of each absolute path its last part stays."""
    return _PATH.sub(lambda found: found[1], text)


def _told(error: ResunetError) -> MlflowException:
    told = str(error)
    shown = without_places(told)
    if shown != told:
        _log.warning("%s: %s", type(error).__name__, told)
    return MlflowException(shown, _code(error))


def _code(error: ResunetError) -> int:
    if isinstance(error, SettingsError):
        return int(INVALID_PARAMETER_VALUE)
    if isinstance(error, (StoreError, RecordsError)):
        return int(TEMPORARILY_UNAVAILABLE)
    return int(BAD_REQUEST)
