"""The command ``python -m train.score``: scores single photographs."""

from train.detector.score import main

if __name__ == "__main__":
    main()
