"""The paper's tables: their rows, and the records of the runs.

A table is a folder with `rows.py`, records under `results/`, and `table.md`.
"""
