"""Meshes, and the operations on them."""
