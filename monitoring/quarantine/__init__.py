"""Labelled live images on their way to a training: collected into batches, and held until a named person decides."""
