"""What every folder of every package shares: errors, options, progress, the device.

Nothing here knows an image or a model. Everything may import this; this imports nothing of ours.
"""
