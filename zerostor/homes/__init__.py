"""SSH homes on this host: the folders and what is known of their users."""
