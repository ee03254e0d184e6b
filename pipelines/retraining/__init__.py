"""A new version from live images that a named person has released: `python -m pipelines retrain`.

`command.py` is the command, `asked.py` what it is asked for and answers, `retrain.py` the way from the data set to the
version, `live_data.py` the data set and the live images in one folder, `challenger.py` the way to Staging and further.
"""
