"""Which part of a window a drift is in: its slices, and the versions beside the one that is watched."""
