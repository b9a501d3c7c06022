"""What the single file starts: the `storemon` command, or a process that needs nothing of it: one reads a table, one
sends a message through apprise.
"""

import sys

if __name__ == "__main__":
    # It is `table_process.ARGUMENT`. Somebody who types one of these alone is told that there is no such option.
    if sys.argv[1:2] == ["--read-table"] and len(sys.argv) == 3:
        import table_process

        table_process.main(sys.argv[2:])
    elif sys.argv[1:] == ["--send-through-apprise", "stdin"]:
        # `apprise_process.ARGUMENTS`.
        import apprise_process

        apprise_process.main()
    else:
        from storemon_flask.__main__ import main

        main()
