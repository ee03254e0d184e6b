"""A tracking server that is away, hangs or refuses, in one sentence."""

import re

import requests
from mlflow.exceptions import MlflowException

from resunet.errors import ResunetError

# What MLflow's client raises then; of artifacts, what lies below it comes through.
TRACKING_FAILURES = (MlflowException, requests.RequestException)


class TrackingError(ResunetError):
    """The tracking server does not take what a run has to log."""


def reason(error: Exception) -> str:
    """Why the server did not take something: one short line, without a password that its address may hold."""
    text = str(error.message if isinstance(error, MlflowException) else error)
    line = re.sub(r"//[^/@\s]*@", "//", " ".join(text.split()))
    return line if len(line) <= 200 else f"{line[:199]}…"


def unanswered(error: MlflowException) -> bool:
    """Whether no answer came, or one that leaves open what the server did."""
    return isinstance(error.__cause__ or error.__context__, requests.RequestException)
