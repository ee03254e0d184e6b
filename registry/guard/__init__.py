"""MLflow's server with the gates in it: `mlflow server --app-name lifecycle` (or `lifecycle-auth`).

`store.py` is below all routes: whatever asks to move a version asks the gates. `artifacts.py` keeps the bytes of
registered versions as they are, `runs.py` what they were made by, `api.py` is what the commands talk to, `app.py` puts
it together.
"""
