"""Who did what: the audit, one version in full, two versions side by side, release notes. Nothing is changed here.

`reader.py` is what the records hold of a version, here or at a guarded server; `show.py`, `compare.py` and
`changelog.py` each make one report of it as plain values, which `*_table.py` and `page.py` bring before people.
"""
