"""The platform's own way to start servers, under the name that tests know."""

from pipelines.servers import free_port, stop_group, tracking_server

__all__ = ["free_port", "stop_group", "tracking_server"]
