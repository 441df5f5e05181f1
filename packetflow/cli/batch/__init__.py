"""`packetflow call --from`: each line of a file becomes a request; results, progress, a journal to go on from."""
