"""The command ``python -m pack.finish``: completes a dataset that many processes packed."""

from pack.publish.finish_command import main

if __name__ == "__main__":
    main()
