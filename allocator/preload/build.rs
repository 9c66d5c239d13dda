//! Link options of the shared library.

fn main() {
    // The purger's thread runs this library's code for ever: dlclose must not unmap it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtiermem.so");
    println!("cargo::rerun-if-changed=build.rs");
}
