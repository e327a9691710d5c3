"""In: the bytes of an image file. Out: its pixels and how they were coded, and bytes again.

The only owner of Pillow and simplejpeg. Next: `recon.models`, then `recon.reconstruct`.
"""
