"""Autoencoders: a real image in, its reconstruction out.

The only package that knows diffusers and Pillow. `python -m recon --help` reconstructs a
folder; `python -m recon.fit --help` trains the embedded autoencoder `tiny`.
"""
