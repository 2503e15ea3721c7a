"""`python -m gateway` is `zerostor`."""

from __future__ import annotations

from gateway.cli import main

main()
