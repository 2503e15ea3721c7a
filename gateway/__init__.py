"""The HTTP process, and the command line that starts every process."""
