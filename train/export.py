"""The command ``python -m train.export``: writes a detector for other programs."""

from train.detector.export import main

if __name__ == "__main__":
    main()
