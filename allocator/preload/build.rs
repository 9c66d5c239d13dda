//! Link options of the shared library.

fn main() {
    // The purger's thread runs this library's code for ever: dlclose must not unmap it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtiermem.so");
    // Functions of one crate lie together: those that allocating needs share few OS pages, and what only starting needs
    // (reading a policy, say) does not come in with them.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--sort-section=name");
    println!("cargo::rerun-if-changed=build.rs");
}
