"""Hypernetworks in JAX: networks that generate the weights of others."""

__version__ = '0.1.0'
