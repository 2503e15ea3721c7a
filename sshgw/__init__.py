"""The SSH process: SFTP, scp and rsync into homes, for users that the gateway knows."""
