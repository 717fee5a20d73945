"""Data sources; `config.data.name` is the file's name."""
