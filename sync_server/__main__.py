"""``python -m sync_server``, the same as the command ``sync-server``."""

from sync_server.entry import main

if __name__ == "__main__":
    main()
