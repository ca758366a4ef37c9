"""What server and clients of order-sync agree on: pure, no I/O, no clock, no randomness of its own."""
