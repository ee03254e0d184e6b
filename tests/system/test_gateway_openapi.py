"""The OpenAPI document against the gateway itself: what it says is what is answered, over real HTTP."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from gateway_scene import IMAGE, NAME, Gateway, GatewayScene
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from version_factory import draw, encode

EXAMPLES = 30
IMAGE_HERE = "<base64 of an image file>"
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
ROUTES = {
    *("POST /segment", "POST /invocations", "GET /ping", "GET /version", "GET /health", "GET /metrics"),
    *("POST /labels", "POST /announce", "GET /v2", "GET /v2/health/live", "GET /v2/health/ready"),
    *("GET /v2/models/{name}", "GET /v2/models/{name}/ready", "POST /v2/models/{name}/infer"),
    *("GET /v2/models/{name}/versions/{version}", "GET /v2/models/{name}/versions/{version}/ready"),
    "POST /v2/models/{name}/versions/{version}/infer",
    *("GET /status", "GET /rollout", "POST /rollout/start", "POST /rollout/finish", "POST /rollout/abort"),
}


@pytest.fixture(scope="module")
def gateway(gateway_registry: GatewayScene) -> Iterator[Gateway]:
    gateway_registry.promote(gateway_registry.add_version())
    with gateway_registry.gateway(RESUNET_GATEWAY_REQUESTS_PER_SECOND="100000") as running:
        yield running


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> Any:
    return gateway.http.get("/openapi.json").json()


@pytest.fixture(scope="module")
def operations(gateway: Gateway) -> dict[str, Any]:
    images = st.sampled_from(
        [IMAGE, encode(draw(64, 80), "JPEG"), encode(draw(32, 32), "TIFF"), encode(draw(20, 20), "BMP")]
    )
    for kind in ("image/png", "image/jpeg", "image/tiff", "image/bmp"):
        schemathesis.openapi.media_type(kind, images | st.binary(max_size=200))
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {f"{one.method.upper()} {one.path}": one for one in found}


def test_every_route_is_in_the_document(operations: dict[str, Any]) -> None:
    assert set(operations) == ROUTES


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_what_is_answered_is_what_the_document_says(gateway: Gateway, operations: dict[str, Any], route: str) -> None:
    statuses, there = set(), {"name": NAME, "version": gateway.version()}

    @given(case=operations[route].as_strategy(), known=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def conforms(case: Any, known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters.update({name: there[name] for name in case.path_parameters})
        answer = case.call(timeout=30)
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    conforms()
    assert statuses <= {200, 202, 400, 404, 406, 409, 413, 415}
    assert "{name}" not in route or {404} < statuses


@pytest.mark.parametrize("route", ["POST /invocations", "POST /v2/models/{name}/infer", "POST /segment"])
@pytest.mark.parametrize("accept", ["application/json", "image/png"])
def test_a_good_request_is_answered_as_the_document_says(
    operations: dict[str, Any], document: Any, route: str, accept: str
) -> None:
    body: Any = IMAGE
    kind = "image/png"
    if route != "POST /segment":
        kind, path = "application/json", route.removeprefix("POST ")
        example = document["paths"][path]["post"]["requestBody"]["content"][kind]["example"]
        text = json.dumps(example)
        assert IMAGE_HERE in text
        body = json.loads(text.replace(IMAGE_HERE, base64.b64encode(IMAGE).decode()))
    operation = operations[route]
    case = operation.Case(
        path_parameters={"name": NAME} if "{name}" in route else {},
        body=body,
        media_type=kind,
        headers={"Accept": accept, "X-Request-Id": f"{accept} {route}".replace(" ", "-")},
    )
    answer = case.call(timeout=30)
    assert answer.status_code == 200, answer.text
    case.validate_response(answer, checks=CHECKS)
    assert answer.headers["x-request-id"] == [f"{accept} {route}".replace(" ", "-")]


def test_every_failure_has_its_schema(document: Any) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status[0] in "45" and path not in ("/health", "/ping", "/v2/health/ready"):
                    schema = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                    assert schema == ("ProtocolProblem" if path.startswith("/v2") else "Problem"), (path, status)
                assert "X-Request-Id" in response["headers"]
            if "503" in operation["responses"] and path != "/health" and "health" not in path:
                assert "Retry-After" in operation["responses"]["503"]["headers"]
    schemas = document["components"]["schemas"]
    assert set(schemas["Problem"]["properties"]) == {"error_code", "message"}
    assert set(schemas["ProtocolProblem"]["properties"]) == {"error"}


def test_who_may_ask_is_told(document: Any) -> None:
    assert {scheme["type"] for scheme in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    asked = {
        path: operation["security"] for path, methods in document["paths"].items() for operation in methods.values()
    }
    assert {path for path, security in asked.items() if security} == {
        *("/segment", "/invocations", "/labels", "/metrics", "/announce"),
        *("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"),
        *("/status", "/rollout", "/rollout/start", "/rollout/finish", "/rollout/abort"),
    }


@pytest.mark.parametrize("path", ["/v2/nowhere", "/v2/models/resunet/infer", "/v2"])
def test_what_no_route_gets_to_see_has_its_family_s_form_too(gateway: Gateway, path: str) -> None:
    assert list(gateway.http.delete(path).json()) == ["error"]
    assert list(gateway.http.get(path, headers={"X-Request-Id": "a" * 300}).json()) == ["error"]
    assert list(gateway.http.delete("/segment").json()) == ["error_code", "message"]
