"""The command ``python -m pack.status``: how far a packing run is, and the line that packs what is left."""

from pack.publish.status import main

if __name__ == "__main__":
    main()
