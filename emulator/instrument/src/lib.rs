//! The run time of instrumented programs: not written yet. What it will feed is `tiermem_emulator::instrumented`.
