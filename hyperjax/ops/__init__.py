"""Pure functions of arrays; nothing here owns a parameter."""
