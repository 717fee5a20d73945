"""Recurrent cells, one a file; `config.model.cell` is the file's name."""
