"""``python -m pack``: see `pack.command`."""

import signal

if __name__ == "__main__":  # Ctrl-C during the imports ends the process, and prints no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pack.command import main

if __name__ == "__main__":
    main()
