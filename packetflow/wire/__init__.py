"""The wire protocol: what a request and a response are, how they become bytes, and the errors that cross."""
