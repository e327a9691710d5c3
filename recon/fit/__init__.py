"""In: a folder of photographs. Out: a small autoencoder in diffusers' format, as `recon/tiny` is one.

The command ``python -m recon.fit``. What it writes, `recon.models` loads.
"""
