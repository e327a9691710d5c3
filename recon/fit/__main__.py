"""The command ``python -m recon.fit``: trains a small autoencoder."""

from recon.fit.fit import main

if __name__ == "__main__":
    main()
