"""Run work in processes that can crash or hang without taking their caller down."""
