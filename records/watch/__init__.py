"""What watching a model leaves in the database of the inference log, for whoever shows or acts on it."""
