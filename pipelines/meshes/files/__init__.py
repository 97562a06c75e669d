"""Mesh files, one module a format.

Each reads a file into `pieces.Piece`, and writes a mesh that is turned as the file wants it.
"""
