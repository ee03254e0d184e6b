"""The gateway: a server that follows the registry, with routes for people and programs."""
