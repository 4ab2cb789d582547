"""`python -m pollbroker` is the command `pollbroker`."""

from pollbroker.cli import main

if __name__ == "__main__":
    main()
