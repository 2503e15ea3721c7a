"""What the node is told once, in the chip's NVS under "edn": who it is, its keys, its hub."""

KEY_SIZE = 32


class Settings:
    """The settings as attributes. nvs: an esp32.NVS. RuntimeError names what is missing."""

    def __init__(self, nvs):
        self.nvs = nvs
        self.name = self.text("name")
        self.key = self.blob("key")
        self.hub = self.text("hub")
        self.port = self.number("port", 0)
        if not self.name or len(self.key) != KEY_SIZE or not self.hub or not self.port:
            raise RuntimeError("name, key, hub or port is not set: flash this node again")
        self.network = self.text("network")
        self.password = self.text("password")
        self.update_key = self.blob("update_key")
        self.retry_ms = self.number("retry_ms", 1000)
        self.retry_max_ms = self.number("retry_max_ms", 30000)
        self.refused_ms = self.number("refused_ms", 300000)
        self.frame_ms = self.number("frame_ms", 10000)
        self.wifi_ms = self.number("wifi_ms", 15000)
        self.watchdog_ms = self.number("watchdog_ms", 60000)
        self.boots = self.number("boots", 0) + 1
        self.keep("boots", self.boots)

    def blob(self, key):
        """Bytes, at most 64; b"" if there are none."""
        buffer = bytearray(64)
        try:
            return bytes(buffer[: self.nvs.get_blob(key, buffer)])
        except OSError:
            return b""

    def text(self, key):
        """Text; "" if there is none."""
        return self.blob(key).decode()

    def number(self, key, default):
        """A number of 32 bits."""
        try:
            return self.nvs.get_i32(key)
        except OSError:
            return default

    def keep(self, key, number):
        """Remember a number; it is in flash on return."""
        self.nvs.set_i32(key, number)
        self.nvs.commit()

    def change_key(self, key):
        """Take a new key, for the next connection; it is in flash on return."""
        self.nvs.set_blob("key", key)
        self.nvs.commit()
        self.key = key
