"""The command ``python -m train.compare``: sets detectors side by side, on the same images."""

from train.evaluation.figures.comparison import main

if __name__ == "__main__":
    main()
