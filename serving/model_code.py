"""What MLflow runs to load the model ("models from code"): nothing is pickled."""

from mlflow.models import set_model

from serving.pyfunc import SegmentationModel

set_model(SegmentationModel())
