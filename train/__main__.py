"""``python -m train`` and ``torchrun ... -m train``: see `train.command`."""

from train.command import main

if __name__ == "__main__":
    main()
