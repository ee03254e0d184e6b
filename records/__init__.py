"""What is written down: inference log and its spool, mask blobs, audit, digests. SQLAlchemy only."""
