"""The job process: takes jobs from the queue and runs the engine on them."""
