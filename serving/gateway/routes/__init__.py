"""One file a family of routes; each has a `router`, and finds the gateway's parts by `serving.gateway.parts`."""
