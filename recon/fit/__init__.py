"""In: a folder of photographs. Out: a small autoencoder in diffusers' format, such as `recon/tiny`.

The command ``python -m recon.fit``. Next: `recon.models`, which loads the result.
"""
