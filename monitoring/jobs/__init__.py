"""Jobs on a clock: which windows are due, who runs what, and what became of it."""
