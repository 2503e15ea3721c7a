"""`zerostor bench`: what this machine does, always beside floors taken in the same run."""
