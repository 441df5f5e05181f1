"""State machines, as gen_statem has them: the machine, what a callback may answer, and the order of events."""
