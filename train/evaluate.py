"""The command ``python -m train.evaluate``: scores images with a trained detector."""

from train.evaluation.evaluate import main

if __name__ == "__main__":
    main()
