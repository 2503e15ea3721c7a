"""Stands in for MicroPython's module of this name: a Wi-Fi that is there, or comes late."""

import chip

STA_IF = 0
STAT_NO_AP_FOUND, STAT_GOT_IP = 201, 1010


class WLAN:
    """Connects at the attempt after `wifi_failures` of the chip."""

    def __init__(self, interface):
        self.connected = chip.current.values.get("wifi_connected", False)

    def active(self, on):
        """Turn the radio on."""

    def connect(self, network, password):
        """Try once."""
        values = chip.current.values
        if values["wifi_failures"]:
            values["wifi_failures"] -= 1
        else:
            self.connected = values["wifi_connected"] = True

    def disconnect(self):
        """Give up."""

    def isconnected(self):
        """Whether it worked."""
        return self.connected

    def status(self):
        """As a number."""
        return STAT_GOT_IP if self.connected else STAT_NO_AP_FOUND
