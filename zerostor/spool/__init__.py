"""The spool: accepted uploads on local disk, one file each."""
