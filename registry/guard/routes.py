"""Every route of MLflow that changes something, and what keeps it from changing what is live or what its bytes are.

    unknown_routes(flask_app, fastapi_app)      # [] for the release of MLflow that is pinned

Paths are written without `--static-prefix`, `/api` and `/ajax-api`: the twins do the same. A server whose MLflow has a
route that is not in here does not start, and tests/code/test_guard_routes.py says so before.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from flask import Flask
from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR
from starlette.routing import Mount

from registry.guard.artifacts import MUTATING

# The guarded registry store decides, by the method of this name.
DECIDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "POST 2.0/mlflow/model-versions/transition-stage": "transition_model_version_stage",
        "POST 2.0/mlflow/registered-models/alias": "set_registered_model_alias",
        "DELETE 2.0/mlflow/registered-models/alias": "delete_registered_model_alias",
        "POST 2.0/mlflow/model-versions/create": "create_model_version",
        "DELETE 2.0/mlflow/model-versions/delete": "delete_model_version",
        "DELETE 2.0/mlflow/registered-models/delete": "delete_registered_model",
        "POST 2.0/mlflow/registered-models/rename": "rename_registered_model",
        "POST 2.0/mlflow/model-versions/set-tag": "set_model_version_tag",
        "DELETE 2.0/mlflow/model-versions/delete-tag": "delete_model_version_tag",
        "POST 2.0/mlflow/registered-models/create": "create_registered_model",
        "POST 2.0/mlflow/registered-models/set-tag": "set_registered_model_tag",
        "DELETE 2.0/mlflow/registered-models/delete-tag": "delete_registered_model_tag",
    }
)

# The guarded tracking store refuses, or leaves something out, by the method of this name: `mlflow gc` deletes files of
# what is marked deleted, and the deletion of a trace those that the trace names.
KEPT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "POST 2.0/mlflow/runs/delete": "delete_run",
        "POST 2.0/mlflow/experiments/delete": "delete_experiment",
        "DELETE 2.0/mlflow/logged-models/{model_id}": "delete_logged_model",
        "POST v1/traces": "log_spans",
        "POST 2.0/mlflow/traces": "deprecated_start_trace_v2",
        "PATCH 2.0/mlflow/traces/{request_id}": "deprecated_end_trace_v2",
        "POST 3.0/mlflow/traces": "start_trace",
        "POST 2.0/mlflow/traces/delete-traces": "_delete_archived_trace_payloads",
        "POST 3.0/mlflow/traces/delete-traces": "_delete_archived_trace_payloads",
    }
)

# They write files: `registry.guard.artifacts` looks where.
BYTES: Final = frozenset(
    {
        "PUT 2.0/mlflow-artifacts/artifacts/{artifact_path}",
        "DELETE 2.0/mlflow-artifacts/artifacts/{artifact_path}",
        "POST 2.0/mlflow-artifacts/mpu/create/{artifact_path}",
        "POST 2.0/mlflow-artifacts/mpu/complete/{artifact_path}",
        "POST 2.0/mlflow-artifacts/mpu/abort/{artifact_path}",
        "POST 2.0/mlflow/artifacts/presigned-upload-url",
        "POST 2.0/mlflow/upload-artifact",
        "POST 2.0/mlflow/runs/create-promptlab-run",
    }
)

# They run code that somebody sent on the server's machine, past every gate: refused.
CLOSED: Final = frozenset(
    {
        "POST 3.0/jobs/",
        "POST 3.0/mlflow/scorer/invoke",
        "POST 3.0/mlflow/scorers/register",
        "PUT 3.0/mlflow/scorers/online-config",
        "POST 3.0/mlflow/issues/invoke",
        "POST 3.0/mlflow/genai/evaluate/invoke",
        "POST 3.0/mlflow/prompt-optimization/jobs",
        "PUT 3.0/mlflow/assistant/config",
        "POST 3.0/mlflow/assistant/message",
        "PATCH 3.0/mlflow/assistant/sessions/{session_id}",
        "POST 3.0/mlflow/assistant/sessions/{session_id}/permission",
        "POST 3.0/mlflow/assistant/sessions/{session_id}/tool-result",
        "POST 3.0/mlflow/assistant/skills/install",
    }
)

# This platform's own.
OURS: Final = frozenset(
    f"POST lifecycle/{verb}" for verb in ("promote", "rollback", "archive", "approve", "mend", "check")
)

# What they change is not what a version is, where it stands, or what its files hold.
HARMLESS: Final = frozenset(
    line.strip()
    for line in """
    PATCH 2.0/mlflow/model-versions/update
    PATCH 2.0/mlflow/registered-models/update
    POST 2.0/mlflow/registered-models/get-latest-versions
    POST 2.0/mlflow/artifacts/presigned-download-url
    POST 2.0/mlflow/logged-models
    POST 2.0/mlflow/logged-models/search
    PATCH 2.0/mlflow/logged-models/{model_id}
    POST 2.0/mlflow/logged-models/{model_id}/params
    PATCH 2.0/mlflow/logged-models/{model_id}/tags
    DELETE 2.0/mlflow/logged-models/{model_id}/tags/{tag_key}
    POST 2.0/mlflow/experiments/create
    POST 2.0/mlflow/experiments/delete-experiment-tag
    POST 2.0/mlflow/experiments/restore
    POST 2.0/mlflow/experiments/search
    POST 2.0/mlflow/experiments/search-datasets
    POST 2.0mlflow/experiments/search-datasets
    POST 2.0/mlflow/experiments/set-experiment-tag
    POST 2.0/mlflow/experiments/update
    POST 2.0/mlflow/runs/create
    POST 2.0/mlflow/runs/delete-tag
    POST 2.0/mlflow/runs/log-batch
    POST 2.0/mlflow/runs/log-inputs
    POST 2.0/mlflow/runs/log-metric
    POST 2.0/mlflow/runs/log-model
    POST 2.0/mlflow/runs/log-parameter
    POST 2.0/mlflow/runs/outputs
    POST 2.0/mlflow/runs/restore
    POST 2.0/mlflow/runs/search
    POST 2.0/mlflow/runs/set-tag
    POST 2.0/mlflow/runs/update
    POST 2.0/mlflow/webhooks
    PATCH 2.0/mlflow/webhooks/{webhook_id}
    DELETE 2.0/mlflow/webhooks/{webhook_id}
    POST 2.0/mlflow/webhooks/{webhook_id}/test
    POST graphql
    POST 3.0/mlflow/ui-telemetry
    POST 3.0/mlflow/demo/generate
    POST 3.0/mlflow/demo/delete

    POST 2.0/mlflow/users/create
    POST 2.0/mlflow/users/create-ui
    DELETE 2.0/mlflow/users/delete
    PATCH 2.0/mlflow/users/update-admin
    PATCH 2.0/mlflow/users/update-password
    POST 3.0/mlflow/users/permissions/grant
    POST 3.0/mlflow/users/permissions/revoke
    POST 3.0/mlflow/roles/assign
    DELETE 3.0/mlflow/roles/unassign
    POST 3.0/mlflow/roles/create
    PATCH 3.0/mlflow/roles/update
    DELETE 3.0/mlflow/roles/delete
    POST 3.0/mlflow/roles/permissions/add
    PATCH 3.0/mlflow/roles/permissions/update
    DELETE 3.0/mlflow/roles/permissions/remove
    POST 3.0/mlflow/workspaces
    PATCH 3.0/mlflow/workspaces/{workspace_name}
    DELETE 3.0/mlflow/workspaces/{workspace_name}

    PATCH 2.0/mlflow/traces/{request_id}/tags
    DELETE 2.0/mlflow/traces/{request_id}/tags
    POST 2.0/mlflow/traces/link-prompts
    POST 2.0/mlflow/traces/link-to-run
    POST 3.0/mlflow/traces/batchGetInfos
    POST 3.0/mlflow/traces/calculate-filter-correlation
    POST 3.0/mlflow/traces/metrics
    POST 3.0/mlflow/traces/search
    PATCH 3.0/mlflow/traces/{trace_id}/tags
    DELETE 3.0/mlflow/traces/{trace_id}/tags
    POST 3.0/mlflow/traces/{trace_id}/assessments
    PATCH 3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}
    DELETE 3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}

    POST 3.0/mlflow/datasets/create
    POST 3.0/mlflow/datasets/search
    DELETE 3.0/mlflow/datasets/{dataset_id}
    POST 3.0/mlflow/datasets/{dataset_id}/add-experiments
    POST 3.0/mlflow/datasets/{dataset_id}/remove-experiments
    POST 3.0/mlflow/datasets/{dataset_id}/records
    DELETE 3.0/mlflow/datasets/{dataset_id}/records
    PATCH 3.0/mlflow/datasets/{dataset_id}/tags
    DELETE 3.0/mlflow/datasets/{dataset_id}/tags/{key}
    POST 3.0/mlflow/issues
    POST 3.0/mlflow/issues/search
    PATCH 3.0/mlflow/issues/{issue_id}
    POST 3.0/mlflow/label-schemas/create
    PATCH 3.0/mlflow/label-schemas/update
    DELETE 3.0/mlflow/label-schemas/delete
    POST 3.0/mlflow/review-queues/create
    POST 3.0/mlflow/review-queues/delete
    POST 3.0/mlflow/review-queues/get-or-create-user
    POST 3.0/mlflow/review-queues/items/add
    POST 3.0/mlflow/review-queues/items/remove
    POST 3.0/mlflow/review-queues/items/set-status
    POST 3.0/mlflow/review-queues/update
    DELETE 3.0/mlflow/scorers/delete
    POST 3.0/jobs/search
    PATCH 3.0/jobs/cancel/{job_id}
    PATCH 3.0/mlflow/jobs/cancel/{job_id}
    POST 3.0/mlflow/prompt-optimization/jobs/search
    POST 3.0/mlflow/prompt-optimization/jobs/{job_id}/cancel
    DELETE 3.0/mlflow/prompt-optimization/jobs/{job_id}

    POST 2.0/mlflow/gateway-proxy
    POST gateway/{endpoint_name}/mlflow/invocations
    POST gateway/mlflow/v1/chat/completions
    POST gateway/openai/v1/chat/completions
    POST gateway/openai/v1/embeddings
    POST gateway/openai/v1/responses
    POST gateway/openai/v1/responses/compact
    POST gateway/anthropic/v1/messages
    POST gateway/gemini/v1beta/models/{endpoint_name}:generateContent
    POST gateway/gemini/v1beta/models/{endpoint_name}:streamGenerateContent
    POST gateway/typesafe/v1/systemone
    POST gateway/proxy/{endpoint_name}/{path}
    POST 3.0/mlflow/gateway/budgets/create
    POST 3.0/mlflow/gateway/budgets/update
    DELETE 3.0/mlflow/gateway/budgets/delete
    POST 3.0/mlflow/gateway/endpoints/create
    POST 3.0/mlflow/gateway/endpoints/update
    DELETE 3.0/mlflow/gateway/endpoints/delete
    POST 3.0/mlflow/gateway/endpoints/set-tag
    DELETE 3.0/mlflow/gateway/endpoints/delete-tag
    POST 3.0/mlflow/gateway/endpoints/bindings/create
    DELETE 3.0/mlflow/gateway/endpoints/bindings/delete
    POST 3.0/mlflow/gateway/endpoints/models/attach
    POST 3.0/mlflow/gateway/endpoints/models/detach
    POST 3.0/mlflow/gateway/guardrails/create
    POST 3.0/mlflow/gateway/guardrails/add-to-endpoint
    PATCH 3.0/mlflow/gateway/guardrails/update-config
    DELETE 3.0/mlflow/gateway/guardrails/remove-from-endpoint
    DELETE 3.0/mlflow/gateway/guardrails/delete
    POST 3.0/mlflow/gateway/model-definitions/create
    POST 3.0/mlflow/gateway/model-definitions/update
    DELETE 3.0/mlflow/gateway/model-definitions/delete
    POST 3.0/mlflow/gateway/secrets/create
    POST 3.0/mlflow/gateway/secrets/update
    DELETE 3.0/mlflow/gateway/secrets/delete

    POST 3.0/mlflow/mcp-servers
    PATCH 3.0/mlflow/mcp-servers/{name}
    DELETE 3.0/mlflow/mcp-servers/{name}
    POST 3.0/mlflow/mcp-servers/{name}/tags
    DELETE 3.0/mlflow/mcp-servers/{name}/tags/{key}
    POST 3.0/mlflow/mcp-servers/{name}/aliases
    DELETE 3.0/mlflow/mcp-servers/{name}/aliases/{alias}
    POST 3.0/mlflow/mcp-servers/{name}/endpoints
    PATCH 3.0/mlflow/mcp-servers/{name}/endpoints/{endpoint_id}
    DELETE 3.0/mlflow/mcp-servers/{name}/endpoints/{endpoint_id}
    POST 3.0/mlflow/mcp-servers/{name}/versions
    PATCH 3.0/mlflow/mcp-servers/{name}/versions/{version}
    DELETE 3.0/mlflow/mcp-servers/{name}/versions/{version}
    POST 3.0/mlflow/mcp-servers/{name}/versions/{version}/tags
    DELETE 3.0/mlflow/mcp-servers/{name}/versions/{version}/tags/{key}
    """.splitlines()
    if line.strip()
)

KNOWN: Final = frozenset({*DECIDED, *KEPT, *BYTES, *CLOSED, *OURS, *HARMLESS})


def unknown_routes(flask_app: Flask, native: FastAPI) -> list[str]:
    """The mutating routes of which nobody has said what they can change, as `METHOD path`."""
    return sorted(mutating_routes(flask_app, native) - KNOWN)


def mutating_routes(flask_app: Flask, native: FastAPI) -> set[str]:
    """All routes of both applications that answer more than reading, as `METHOD path`."""
    rules = [(rule.rule, rule.methods) for rule in flask_app.url_map.iter_rules()]
    return {
        f"{method} {_plain(path)}"
        for path, methods in (*rules, *_native(native.routes))
        # What has no methods, such as a websocket, may do anything.
        for method in (MUTATING if methods is None else MUTATING & set(methods))
    }


def _native(routes: Iterable[Any]) -> Iterator[tuple[str, Iterable[str] | None]]:
    for route in routes:
        if isinstance(route, Mount) and not route.path:
            continue  # Flask's
        for one in route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else [route]:
            yield str(one.path), getattr(one, "methods", None)


def _plain(path: str) -> str:
    """A path without what comes before it, and with placeholders written in one way."""
    prefix = os.environ.get(STATIC_PREFIX_ENV_VAR, "").rstrip("/")
    path = path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path
    path = re.sub(r"<(?:[^:<>]+:)?(\w+)>|\{(\w+)(?::\w+)?\}", lambda found: f"{{{found[1] or found[2]}}}", path)
    return re.sub(r"^/(?:(?:ajax-)?api/)?", "", path)
