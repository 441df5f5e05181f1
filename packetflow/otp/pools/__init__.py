"""Work elsewhere: pools of threads and of processes that do what would hold the hub."""
