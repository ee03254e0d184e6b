"""The gateway's peers: other servers of models, each written as its own documentation advises.

All do the work of `benchmarks.peers.work`, with the same engine. Each runs in an environment of its own, since what
they pin differs; `benchmarks.peers.environments` makes it.
"""
