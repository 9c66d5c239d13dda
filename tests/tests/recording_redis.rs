//! redis-server while it is recorded: its trace is whole, and says what the allocator's own statistics and the server say.
