"""Pure core: functions from bytes and values to bytes and values. No I/O, clock or randomness."""
