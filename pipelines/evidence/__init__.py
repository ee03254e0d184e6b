"""Measuring what the gates want to know of a version: `python -m pipelines evidence resunet 7`.

`subject.py` is what is measured: the two versions' files and the test images; each other module measures one kind of
document of `registry.evidence`; `command.py` runs those that are missing and keeps what they find.
"""
