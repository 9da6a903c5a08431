"""`python -m turnsmith` is `turnsmith`."""

from turnsmith.cli.main import main

main()
