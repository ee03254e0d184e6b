"""The steps by which the platform's tables became what they are: one file a revision, read by Alembic.

A step that was released is not changed any more, and uses no definition that may change. It is called with its
operations (`records.migrate`), and has no way back: that is a backup.
"""
