//! How long a recorded run would take elsewhere.
