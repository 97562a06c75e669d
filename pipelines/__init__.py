"""One image to a textured 3D mesh; installed, this package is called image_to_3d."""

__version__ = "0.2.0"
