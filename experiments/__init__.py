"""The paper's tables and figures: their rows, and the records of the runs.

A table is a folder with `rows.py`, records under `results/`, and `table.md`; a
figure one with `figure.py`, and `figure.md`; other Markdown is measurements.
"""
