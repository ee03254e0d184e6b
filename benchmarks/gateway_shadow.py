"""What the shadow costs the requests that it follows: a gateway whose requests are all answered twice, and one without.

shadow_costs(scene, pool, ask, rounds=7, each=40) -> latency of one client, rate of eight, with and without
"""

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from benchmarks.gateway_clients import Ask, Asked, ask
from benchmarks.gateway_scene import SWAPPED, Gateway, Scene
from benchmarks.rounds import interleave

PLAIN, SHADOWED = "without a shadow", "every request in the shadow too"
_STARTS_SECONDS: Final = 60.0
_POLICY: Final = """\
format: 1
sticky: request
shadow: {share: 1.0, requests: 1000000000, minutes: 0}
canary: [{share: 0.01, requests: 1, minutes: 0}]
limits: {error_rate: 0.5, latency_ratio: 1000, confidence_drop: 0.99}
"""


def shadow_costs(
    scene: Scene, pool: ProcessPoolExecutor, ask_at: Callable[[str], Ask], rounds: int, each: int, clients: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Median latencies of one client, ms, and requests a second of many, of both gateways.

    Args:
        scene: whose model `SWAPPED` has two versions.
        pool: runs the clients.
        ask_at: the request at a gateway's address.
        rounds: interleaved.
        each: requests of a client.
        clients: how many are many.
    """
    policy = scene.folder / "shadow.yaml"
    policy.write_text(_POLICY, encoding="utf-8")
    scene.promote(SWAPPED, "2", "Staging")
    own = {"RESUNET_GATEWAY_ROLLOUT_POLICY": str(policy), "RESUNET_HOME": str(scene.folder / "shadowed home")}
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(scene.gateway(SWAPPED, ask_at("")))
        shadowed = stack.enter_context(scene.gateway(SWAPPED, ask_at(""), **own))
        _begin(shadowed, ask_at(shadowed.url), pool)
        up = {PLAIN: ask_at(plain.url), SHADOWED: ask_at(shadowed.url)}

        def side(what: Ask, count: int, read: Callable[[Asked], float]) -> Callable[[], float]:
            return lambda: read(pool.submit(ask, what, count, each).result())

        alone = interleave({name: side(what, 1, lambda asked: asked.p50_ms) for name, what in up.items()}, rounds)
        many = interleave({name: side(what, clients, lambda asked: asked.rate) for name, what in up.items()}, rounds)
    return alone, many


def _begin(gateway: Gateway, what: Ask, pool: ProcessPoolExecutor) -> None:
    """Start a rollout, and wait until the shadow answers."""
    request = urllib.request.Request(f"{gateway.url}/rollout/start", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_STARTS_SECONDS) as response:
        response.read()
    ends = time.monotonic() + _STARTS_SECONDS
    while time.monotonic() < ends:
        pool.submit(ask, what, 1, 2).result()
        with urllib.request.urlopen(f"{gateway.url}/rollout", timeout=_STARTS_SECONDS) as response:
            if json.load(response)["agreement"]["count"]:
                return
        time.sleep(0.2)
    raise RuntimeError("the shadow does not answer")
