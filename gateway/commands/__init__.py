"""The subcommands of `zerostor`, one a file; each defines `command`."""
