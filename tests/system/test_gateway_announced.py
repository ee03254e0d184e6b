"""A guarded registry tells a gateway of its decisions, which then does not wait for its next look."""

from pathlib import Path
from urllib.parse import urlsplit

from gateway_scene import NAME, GatewayScene
from guarded_server import guarded_server
from mlflow_server import free_port

POLICY = """
format: 1
stages:
  Production: {intact: }
"""


def test_whoever_moves_a_version_in_a_guarded_registry_moves_the_gateway_at_once(tmp_path: Path) -> None:
    port = free_port()
    told = {"RESUNET_NOTIFY": f"json://127.0.0.1:{port}/announce", "NO_PROXY": "127.0.0.1"}
    with guarded_server(tmp_path / "tracking", policy=POLICY, environment=told) as server:
        scene = GatewayScene(tmp_path, port=int(urlsplit(server.url).port or 0))
        first, second = scene.promote(scene.add_version()), scene.add_version()
        with scene.gateway("--poll", "3600", port=port) as gateway:
            assert gateway.version() == first
            for version in (second, first):
                scene.promote(version)
                gateway.follows_to(version)
                assert server.live(NAME).alias == version  # it was the guard who moved it
