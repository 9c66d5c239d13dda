//! How the library is linked.

fn main() {
    // Functions of one crate lie together: those that allocating needs share few OS pages, and what only starting needs
    // (reading a policy, say) does not come in with them.
    println!("cargo:rustc-cdylib-link-arg=-Wl,--sort-section=name");
    println!("cargo:rerun-if-changed=build.rs");
}
