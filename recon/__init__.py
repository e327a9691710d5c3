"""In: a real image. Out: its reconstruction by an autoencoder. Next: `pack`, which stores both as a pair.

The only package that imports diffusers. `python -m recon --help` reconstructs a folder of images;
`python -m recon.fit --help` trains a small autoencoder such as the embedded `tiny`.
"""
