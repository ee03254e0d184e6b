"""What stands between a run and Production: versions, gates, promotion, rollback, audit."""
