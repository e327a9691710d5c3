"""In: the name of an autoencoder. Out: the loaded autoencoder with its provenance.

Only this folder (and `recon/fit`) imports diffusers. Next: `recon.reconstruct`, which runs it on images.
"""
