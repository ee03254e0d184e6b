"""The model and the image maths as a plain library: torch, numpy, pillow and OpenCV; it knows nothing of MLflow."""
