"""From a version to an answer: the version's files, the inference engine, the pyfunc model."""
