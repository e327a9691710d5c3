"""Reconstructs a folder of images: ``python -m recon --help``."""

from recon.folder import main

if __name__ == "__main__":
    main()
