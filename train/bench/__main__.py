"""The command ``python -m train.bench``: measures how fast pairs are read, decoded and augmented."""

from train.bench.command import main

if __name__ == "__main__":
    main()
