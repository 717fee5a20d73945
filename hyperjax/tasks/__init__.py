"""One problem each; `config.task.name` is the file's name."""
