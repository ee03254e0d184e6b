"""What a client may see of a prediction: masks, overlays and probabilities as PNG, and three forms in JSON."""
