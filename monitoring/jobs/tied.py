"""Run any module as a command that ends with the schedule that started it, however that one ended.

python -m monitoring.jobs.tied records upkeep           # as `python -m records upkeep`, while standard input is open
"""

import runpy
import sys

from monitoring.lifeline import CLOSING_S, end_with_starter

if __name__ == "__main__":
    end_with_starter(CLOSING_S)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
