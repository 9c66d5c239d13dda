//! The profiles that are shipped.

use super::Profile;

/// A profile's name and text.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The names of the shipped profiles: memory from near to far, then links, drives and accelerators.
        pub const BUILTIN_NAMES: &[&str] = &[$($name),*];

        fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../profiles/", $name, ".toml"))),)*
                _ => None,
            }
        }
    };
}

shipped!(
    "hbm2",
    "dram-ddr5",
    "dram-remote",
    "cxl-near",
    "cxl-asic",
    "cxl-cz120",
    "cxl-fpga",
    "cxl-pooled",
    "cxl-far",
    "pcie5-x8",
    "pcie5-x16",
    "cxl-switch",
    "nvme-gen4",
    "nvme-gen5",
    "gpu-h100",
    "gpu-h200",
);

pub(super) fn get(name: &str) -> Option<Profile> {
    let text = text(name)?;
    match Profile::parse(text, &format!("{name}.toml")) {
        Ok(profile) => Some(profile),
        // The texts are compiled in, and a test reads every one of them.
        Err(error) => unreachable!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_well_formed_and_called_what_its_file_is_called() {
        for &name in BUILTIN_NAMES {
            let profile = Profile::parse(text(name).unwrap(), &format!("profiles/{name}.toml"))
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(profile.name, name);
            assert!(!profile.description.is_empty(), "{name}");
        }
    }

    #[test]
    fn no_file_is_forgotten() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut names = BUILTIN_NAMES.to_vec();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}
