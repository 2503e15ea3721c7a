"""The subcommands of `zerostor`, one a file with its `command`, and what they share."""
