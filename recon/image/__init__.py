"""In: the bytes of an image file. Out: its pixels and how they were compressed; and back to bytes.

Only this folder imports Pillow and simplejpeg. Next: `recon.models`, then `recon.reconstruct`.
"""
