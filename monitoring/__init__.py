"""From an answer to knowledge: reference, drift, schedule."""
