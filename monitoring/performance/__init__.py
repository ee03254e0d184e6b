"""What a version is worth on live images: labels that come later, estimates without them, and what to label next."""
