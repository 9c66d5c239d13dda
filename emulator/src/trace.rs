//! What a program did, in a file.
