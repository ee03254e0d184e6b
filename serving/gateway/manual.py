"""What the OpenAPI document says of every route: how it fails, who may ask, and what all requests and answers carry.

    router = APIRouter(responses=refusals(400, 401, 429))
    app.openapi = lambda: completed(get_openapi(…))

The document is the client's manual, shown at `/docs`, and a test compares what the gateway does with it.
"""

from typing import Any, Final

from pydantic import BaseModel, Field

from serving.request import MAX_TEXT

Json = dict[str, Any]
BINARY: Final[Json] = {"schema": {"type": "string", "format": "binary"}}


class Problem(BaseModel):
    """A request that was refused, or failed."""

    error_code: str = Field(examples=["BAD_REQUEST"], description="of MLflow's scoring server, for programs")
    message: str = Field(examples=["the PNG file is truncated"], description="one sentence for people")


class ProtocolProblem(BaseModel):
    """The same as the Open Inference Protocol says it."""

    error: str = Field(examples=["row 0: the PNG file is truncated"], description="one sentence for people")


_MEANT: Final = {
    400: "Something of the request is wrong; the message says what.",
    401: "There are API keys here, and the request brings none, or none that is valid.",
    403: "The key lacks the scope that this needs.",
    404: "There is nothing of that name here.",
    406: "The answer does not come in that form.",
    408: "The request's body did not come in the time that a request has.",
    409: "It cannot be done as things stand; the message says why.",
    413: "An image, the body, or all images together are larger than is taken.",
    415: "What was sent is of a kind that is not read.",
    429: "More than one caller may ask for at once.",
    503: "Nothing is live, or the server is busy: the same request may succeed later.",
    504: "The server's time for a request is over.",
}
_RETRY: Final = {
    "Retry-After": {
        "description": "seconds until it is worth trying again",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_CHALLENGE: Final = {"WWW-Authenticate": {"description": "as of RFC 6750", "schema": {"type": "string"}}}
_HEADERS: Final = {401: _CHALLENGE, 403: _CHALLENGE, 429: _RETRY, 503: _RETRY}
_REQUEST_ID: Final = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "what the request is to go by, where its body names no id; the answer, and the row of its only "
    "image in the log, carry it. Several images have an id each, which the body of the answer tells as `request_id`",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": "^[!-~]+$"},
}
_ANSWERED_ID: Final = {
    "description": "what the request goes by, and the row of its only image in the log: the id in its body, else its "
    "own, else one that was made",
    "schema": {"type": "string"},
}
VERSION_HEADER: Final = {
    "X-Model-Version": {
        "description": "the version that answered, or failed to; where none was asked, the one that is live",
        "schema": {"type": "string"},
    },
}
_SCHEMES: Final = {
    "basic": {"type": "http", "scheme": "basic", "description": "the same as a password, for pages in a browser"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key of `python -m serving keys add`"},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "the same, where Bearer cannot be sent",
    },
}


def refusals(*statuses: int, model: type[BaseModel] = Problem) -> dict[int | str, Json]:
    """How a route may fail, as FastAPI's `responses` takes it."""
    return {
        status: {"model": model, "description": _MEANT[status], "headers": _HEADERS.get(status, {})}
        for status in statuses
    }


def completed(document: Json) -> Json:
    """An OpenAPI document with what all of its routes share."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # The last one: with no keys configured none is needed.
            asked: list[Json] = [{"bearer": []}, {"key": []}, {}] if "401" in operation["responses"] else []
            operation.setdefault("security", asked)
            operation.setdefault("parameters", []).append(_REQUEST_ID)
            schema = "ProtocolProblem" if path.startswith("/v2") else "Problem"
            refused = {"description": _MEANT[400], "content": _of(schema)}
            operation["responses"].setdefault("400", refused)
            operation["responses"].pop("422", None)  # FastAPI's own form of 400, which is not sent here
            for response in operation["responses"].values():
                response.setdefault("headers", {}).update({"X-Request-Id": _ANSWERED_ID, **VERSION_HEADER})
    schemas = document["components"].setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (Problem, ProtocolProblem):
        schemas.setdefault(model.__name__, model.model_json_schema())
    return document


def _of(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
