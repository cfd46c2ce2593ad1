"""``python -m ratemill``."""

from ratemill.cli import main

if __name__ == "__main__":
    main()
