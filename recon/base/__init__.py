"""What all packages share: errors, the command line, checks of options, progress, paths, the device.

Nothing here knows an image or a model. Every folder may import this one; it imports `recon.launcher` alone.
"""
