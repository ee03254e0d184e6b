"""A collector of OpenTelemetry hears of each request of a real gateway, and of none where nobody asked for it."""

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gateway_scene import DEADLINE_S, IMAGE, ROOT, GatewayScene
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes spans over HTTP."""

    def __init__(self) -> None:
        self.spans: queue.Queue[tuple[str, Span]] = queue.Queue()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = [
                        each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                    ]
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            collector.spans.put((names[0], span))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_each_request_is_a_span_with_its_route_version_and_id(
    gateway_registry: GatewayScene, collector: Collector
) -> None:
    version = gateway_registry.promote(gateway_registry.add_version())
    settings = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "NO_PROXY": "127.0.0.1",
    }
    with gateway_registry.gateway(**settings) as gateway:
        headers = {"Content-Type": "image/png", "X-Request-Id": "traced"}
        assert gateway.http.post("/segment", content=IMAGE, headers=headers).status_code == 200
        while True:
            service, span = collector.spans.get(timeout=DEADLINE_S)
            said = {each.key: each.value.string_value for each in span.attributes}
            if said.get("resunet.request_id") == "traced":
                break
    assert service == "resunet-gateway" and said["resunet.version"] == version
    assert "/segment" in span.name


def test_what_is_missing_is_named(gateway_registry: GatewayScene) -> None:
    program = (
        "import sys; sys.modules['opentelemetry.instrumentation.asgi'] = None\n"
        "from serving.gateway.tracing import traced\ntraced(None)"
    )
    environment = gateway_registry.environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "pip install 'resunet-lifecycle[otel]'" in done.stderr
