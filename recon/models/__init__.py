"""In: the name of an autoencoder. Out: the autoencoder, loaded, with its provenance.

The only owner of diffusers and of hub ids. Next: `recon.reconstruct`, which runs it on images.
"""
