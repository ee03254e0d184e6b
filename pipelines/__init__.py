"""Steps a person or a schedule runs: prepare, train, evaluate, export."""
