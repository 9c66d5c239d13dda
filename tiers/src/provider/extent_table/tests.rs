//! Tests of the table by itself.
