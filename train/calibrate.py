"""The command ``python -m train.calibrate``: fits temperature and threshold on a validation set."""

from train.detector.calibrate import main

if __name__ == "__main__":
    main()
