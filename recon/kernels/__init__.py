"""Loops over bytes, coefficients and pixels that numba compiles; imported only where they are needed."""
