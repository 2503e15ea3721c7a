"""The node, for as long as there is power; whatever goes wrong, the chip begins anew."""

import sys
import time

import esp32
import machine
from slots import Slots

try:
    from app.link import Link

    # Its two buffers are made first, while the heap is in one piece.
    link = Link()
    from app.board import Board
    from app.node import Node

    Node(Board(), link).run()
except Exception as error:  # noqa: BLE001 - the chip begins anew, whatever it was
    sys.print_exception(error)
    Slots(esp32.NVS("edn")).crashed()
time.sleep(1)
machine.reset()
