"""Processes that tests start, MLflow's servers above all, look for garbage as seldom as the platform's own commands.

Python imports this by its name, from the PYTHONPATH that `tests/conftest.py` sets; see `records.garbage`.
"""

import atexit
import gc

gc.set_threshold(5000, *gc.get_threshold()[1:])
atexit.register(gc.freeze)
