"""Where the points of a sweep run: `--engine` names a file of this folder."""
