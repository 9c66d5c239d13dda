//! The QEMU lab: real kernel CXL drivers on emulated devices, one command, no kernel build.
