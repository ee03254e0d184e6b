"""Who is behind the request that is being answered."""

from urllib.parse import unquote

from flask import g, has_request_context, request

from registry.guard.messages import CLAIMED
from registry.people import Actor

UNKNOWN = "unknown"
_LONGEST = 200


def current_actor() -> Actor:
    """The user whose password MLflow's authentication checked; else whoever they say they are, which proves nothing."""
    if not has_request_context():
        return Actor(UNKNOWN)
    name = getattr(g, "mlflow_authenticated_user", None)
    if name:
        return Actor(str(name), authenticated=True)
    claimed = "".join(letter for letter in unquote(request.headers.get(CLAIMED, "")) if letter.isprintable())
    return Actor(claimed.strip()[:_LONGEST] or UNKNOWN)
