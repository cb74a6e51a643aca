"""The paper's table 1, cell by cell; see `run.py`."""
