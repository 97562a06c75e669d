"""What meshes are made of and what is done with them."""
