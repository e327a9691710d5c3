"""The command ``python -m train.simulate``."""

from train.simulate.command import main

if __name__ == "__main__":
    main()
