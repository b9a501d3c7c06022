"""What the single file starts: the `storemon` command."""

from storemon_flask.__main__ import main

if __name__ == "__main__":
    main()
