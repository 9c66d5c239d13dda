//! The run time of instrumented programs.
