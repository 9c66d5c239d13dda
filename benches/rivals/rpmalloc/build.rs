//! rpmalloc's preload build defines `malloc` itself, hidden in a `cdylib`; ours stands first and is the one exported.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,--allow-multiple-definition");
}
