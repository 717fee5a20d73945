"""Whole networks; `config.model.name` is the file's name."""
