//! Who there is: Debian's libraries, a ready-made mimalloc, crates that are built here, and our own in its variants.

use std::path::Path;

use super::build::Crate;
use super::{BASELINE, Field, Folders, NOT_BUILT, OURS, OURS_HARDENED, OURS_TWO_TIERS};

/// Folders in which distributions keep shared libraries.
const LIBRARY_FOLDERS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib"];
/// mimalloc from a Python wheel, below the rivals' target folder; the crates have an older one.
const MIMALLOC_WHEEL: &str = "wheels/cmeel.prefix/lib/libmimalloc.so.3.4";

/// A measurement and those who take part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The comparison of everyone.
    Field,
    /// Allocators that check what the program does, each beside itself without checks.
    Hardened,
    /// The effect of huge pages: everyone, and ours with each setting.
    Huge,
}

const COMPARED: &[Party] = &[Party::Field, Party::Huge];
const EVERYWHERE: &[Party] = &[Party::Field, Party::Huge, Party::Hardened];
const HARDENED: &[Party] = &[Party::Hardened];

/// The rivals that come as crates.
pub(super) const CRATES: [Crate; 7] = [
    Crate {
        name: "mimalloc3.3",
        origin: "crate libmimalloc-sys 0.1.49 (mimalloc 3.3.2)",
        package: "rival-mimalloc",
        cxx_flags: None,
        parties: EVERYWHERE,
    },
    Crate {
        name: "mimalloc-secure",
        origin: "crate libmimalloc-sys 0.1.49 (mimalloc 3.3.2), feature secure",
        package: "rival-mimalloc-secure",
        cxx_flags: None,
        parties: HARDENED,
    },
    Crate {
        name: "snmalloc",
        origin: "crate snmalloc-sys 0.7.6",
        package: "rival-snmalloc",
        cxx_flags: None,
        parties: EVERYWHERE,
    },
    Crate {
        name: "snmalloc-checks",
        origin: "crate snmalloc-sys 0.7.6, with SNMALLOC_CHECK_CLIENT",
        package: "rival-snmalloc-checks",
        // The crate's feature `check` only works with cmake.
        cxx_flags: Some("-DNDEBUG -DSNMALLOC_CHECK_CLIENT"),
        parties: HARDENED,
    },
    Crate {
        name: "jemalloc",
        origin: "crate tikv-jemalloc-sys 0.7.1 (jemalloc 5.3.1)",
        package: "rival-jemalloc",
        cxx_flags: None,
        parties: COMPARED,
    },
    Crate {
        name: "rpmalloc",
        origin: "crate rpmalloc-sys 0.2.3 (rpmalloc 1.4)",
        package: "rival-rpmalloc",
        cxx_flags: None,
        parties: COMPARED,
    },
    Crate {
        name: "rusty_alloc",
        origin: "crate rusty_alloc 2.4.0",
        package: "rival-rusty-alloc",
        cxx_flags: None,
        parties: COMPARED,
    },
];

/// Finds everyone of `party`. `second_tier` is the file that backs our slow tier.
pub fn find(folders: &Folders, second_tier: &Path, party: Party) -> Field {
    let mut field = Field::default();
    if party != Party::Hardened {
        add_ready_made(&mut field, folders);
    }
    for rival in CRATES.iter().filter(|rival| rival.parties.contains(&party)) {
        field.add(rival.name, rival.origin, Some(rival.library(folders)), NOT_BUILT);
    }
    let ours = folders.release.join("libtiermem.so");
    let slow = format!("slow=dax-file:{},size=4G", second_tier.display());
    field.add_with(OURS, "this project, one tier", &ours, &[]);
    let [hardened, strong] = OURS_HARDENED;
    match party {
        Party::Field => field.add_with(
            OURS_TWO_TIERS,
            "this project, DRAM and a DAX file",
            &ours,
            &[("TIERMEM_TIERS", &slow), ("TIERMEM_LIMITS", "dram=64M")],
        ),
        Party::Hardened => {
            field.add_with(hardened, "this project, TIERMEM_HARDEN=check", &ours, &[("TIERMEM_HARDEN", "check")]);
            field.add_with(strong, "this project, TIERMEM_HARDEN=strong", &ours, &[("TIERMEM_HARDEN", "strong")]);
        }
        Party::Huge => {
            for setting in ["never", "auto", "always"] {
                let origin = format!("this project, TIERMEM_HUGE={setting}");
                field.add_with(&format!("{OURS}-{setting}"), &origin, &ours, &[("TIERMEM_HUGE", setting)]);
            }
        }
    }
    field
}

/// The libraries that are not built here.
fn add_ready_made(field: &mut Field, folders: &Folders) {
    let system =
        |file: &str| LIBRARY_FOLDERS.iter().map(|folder| Path::new(folder).join(file)).find(|path| path.exists());
    // libc itself is preloaded, so that a program linked with another allocator (Debian's redis) is on glibc too.
    field.add("glibc", "the C library", system("libc.so.6"), "no libc.so.6 in the usual folders");
    for (name, origin, file, package) in [
        ("jemalloc-deb", "Debian's jemalloc 5.3", "libjemalloc.so.2", "libjemalloc2"),
        ("tcmalloc", "Debian's gperftools", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
        ("mimalloc2", "Debian's mimalloc 2.0", "libmimalloc.so.2", "libmimalloc2.0"),
    ] {
        field.add(name, origin, system(file), &format!("no {file}; `apt-get install {package}`"));
    }
    let wheel = folders.rivals_target.join(MIMALLOC_WHEEL);
    let missing = "its Python wheel is not installed; `cargo xtask bench` does so where there is one";
    field.add(BASELINE, "wheel cmeel-mimalloc 3.4.3", Some(wheel), missing);
}
