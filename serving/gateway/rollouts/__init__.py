"""The gateway's part in a rollout: it does what `serving.rollout` decides, and tells it what was seen."""
