//! Getting QEMU, kernels and busybox from Debian's archive into the cache, without changing anything on the host.

mod apt;
mod mirror;

use std::fs;
use std::path::{Path, PathBuf};

use tiermem_sys::fs as file_system;

use crate::cache::{Cache, Part};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Qemu;
use crate::kernel::Kernel;

pub use apt::Apt;
pub use mirror::of_this_host as mirror_of_this_host;

/// The release whose packages are taken where none is named.
pub const SUITE: &str = "trixie";
/// The keys that Debian signs with, as its own package installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The meta package of the kernels: small, and made for virtual machines.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// By how much unpacking makes a package larger, at most.
const GROWTH: u64 = 5;
/// What nobody reads here.
const SUPERFLUOUS: [&str; 5] =
    ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug"];

/// What is to be fetched, and from where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Use only what is in the cache.
    pub offline: bool,
    /// Look for newer versions of what is here already.
    pub update: bool,
    /// The mirror of Debian's archive; by default the one in the host's apt sources.
    pub mirror: Option<String>,
    /// The keys that its lists must be signed with.
    pub keyring: Option<PathBuf>,
    /// The release; its backports give QEMU and the newer kernel.
    pub suite: Option<String>,
    /// The release's own, older kernel too.
    pub older_kernel: bool,
}

/// How far the work is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// This begins.
    Step(&'a str),
    /// So much of a download is done.
    Bytes {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// A part that can be fetched.
struct Wanted<'a> {
    /// Its folder, if that is known before it is unpacked.
    name: Option<&'a str>,
    packages: [&'a str; 1],
    suite: String,
}

/// Fetches what is missing and says what is there then.
///
/// # Errors
/// [`ErrorKind::Unsupported`] on a host without apt or Debian's keys, with what to provide instead;
/// [`ErrorKind::NotFound`] offline with an incomplete cache; [`ErrorKind::NoRoom`]; [`ErrorKind::Download`].
pub fn fetch(cache: &Cache, options: &Options, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<Part>> {
    let _lock = cache.lock()?;
    let suite = options.suite.as_deref().unwrap_or(SUITE);
    let wanted = wanted(suite, options.older_kernel);
    let parts = cache.parts()?;
    let complete = |part: &Wanted<'_>| parts.iter().any(|have| part.is(have) && cache.path(&have.name).is_dir());
    let missing: Vec<_> = wanted.iter().filter(|part| options.update || !complete(part)).collect();
    if missing.is_empty() {
        return Ok(parts);
    }
    if options.offline {
        let names: Vec<_> = missing.iter().map(|part| part.packages[0]).collect();
        let why = format!("not in the cache {}: {}", cache.root().display(), names.join(", "));
        return Err(Error::new(ErrorKind::NotFound, format!("{why}. Run `tierctl qemu fetch` once with a network.")));
    }
    let apt = set_up(cache, suite, options)?;
    progress(Progress::Step("the lists of packages"));
    apt.update()?;
    for part in missing {
        fetch_part(cache, &apt, part, progress)?;
    }
    cache.parts()
}

impl Wanted<'_> {
    fn is(&self, part: &Part) -> bool {
        part.suite == self.suite && self.name.map_or(part.name.starts_with("kernel-"), |name| part.name == name)
    }
}

fn wanted(suite: &str, older_kernel: bool) -> Vec<Wanted<'static>> {
    let backports = format!("{suite}-backports");
    let mut wanted = vec![Wanted { name: Some("busybox"), packages: ["busybox-static"], suite: suite.into() }];
    if Qemu::of_system().is_none() {
        wanted.push(Wanted { name: Some("qemu"), packages: ["qemu-system-x86"], suite: backports.clone() });
    }
    wanted.push(Wanted { name: None, packages: [KERNEL_PACKAGE], suite: backports });
    if older_kernel {
        wanted.push(Wanted { name: None, packages: [KERNEL_PACKAGE], suite: suite.into() });
    }
    wanted
}

fn set_up(cache: &Cache, suite: &str, options: &Options) -> Result<Apt> {
    let instead = "On a host without apt, bring your own: --qemu PROGRAM (QEMU 11 or newer, qemu-system-x86_64), --kernel \
                   VMLINUZ and --modules FOLDER (lib/modules/VERSION of a kernel with CXL), --busybox PROGRAM (static).";
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::new(ErrorKind::Unsupported, format!("packages are fetched on x86-64 only. {instead}")));
    }
    if ["apt-get", "dpkg-deb"].iter().any(|tool| crate::program::find(tool.as_ref(), path().as_deref()).is_none()) {
        return Err(Error::new(ErrorKind::Unsupported, format!("this host has no apt-get and dpkg-deb. {instead}")));
    }
    let mirror = options.mirror.clone().or_else(|| mirror::of_this_host(Path::new("/etc/apt")));
    let mirror = mirror.ok_or_else(|| {
        let why = "this host's apt sources name no mirror of Debian; name one: --mirror URL (the folder with dists/ and pool/)";
        Error::new(ErrorKind::Unsupported, why)
    })?;
    let backports = format!("{suite}-backports");
    let keyring = options.keyring.clone().unwrap_or_else(|| KEYRING.into());
    Apt::set_up(&cache.path("apt"), &mirror, &[suite, &backports], &keyring)
}

fn path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

fn fetch_part(cache: &Cache, apt: &Apt, wanted: &Wanted<'_>, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
    let packages = apt.parts(&wanted.packages, &wanted.suite)?;
    let size: u64 = packages.iter().map(|package| package.size).sum();
    let version = packages
        .iter()
        .find_map(|package| package.file.strip_prefix(wanted.packages[0])?.strip_prefix('_'))
        .and_then(|rest| rest.split('_').next())
        .map(|version| version.replace("%3a", ":"))
        .unwrap_or_default();
    if cache.parts()?.iter().any(|part| wanted.is(part) && part.version == version && cache.path(&part.name).is_dir()) {
        return Ok(());
    }
    check_room(cache.root(), size * (1 + GROWTH))?;
    progress(Progress::Step(&format!("{} {version}", wanted.packages[0])));
    apt.download(&wanted.packages, &wanted.suite, progress)?;

    let staging = cache.path("unpacking");
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).at(&staging)?;
    for package in &packages {
        apt.unpack(&package.file, &staging)?;
    }
    for folder in SUPERFLUOUS {
        let _ = fs::remove_dir_all(staging.join(folder));
    }
    let name = match wanted.name {
        Some(name) => name.to_owned(),
        None => format!("kernel-{}", Kernel::unpacked(&staging)?.version),
    };
    let place = cache.path(&name);
    let _ = fs::remove_dir_all(&place);
    fs::rename(&staging, &place).at(&place)?;
    apt.clean(&packages);
    cache.enter(Part {
        disk_bytes: disk_use(&place),
        name,
        version,
        suite: wanted.suite.clone(),
        packages: packages.into_iter().map(|package| package.file).collect(),
        download_bytes: size,
    })
}

/// Complains if the disk that holds `folder` has not so much room.
///
/// # Errors
/// [`ErrorKind::NoRoom`] with both figures.
pub(crate) fn check_room(folder: &Path, needed: u64) -> Result<()> {
    match file_system::space(folder) {
        Ok(space) if space.available < needed => {
            let (have, need) = (space.available >> 20, needed.div_ceil(1 << 20));
            let why = format!("{}: {need} MiB are needed and {have} MiB are free", folder.display());
            Err(Error::new(ErrorKind::NoRoom, why))
        }
        _ => Ok(()),
    }
}

/// Bytes below a folder.
pub fn disk_use(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_use(&entry.path()),
        Ok(data) if data.is_file() => data.len(),
        _ => 0,
    };
    entries.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::{Options, check_room, fetch};
    use crate::cache::Cache;
    use crate::error::ErrorKind;

    #[test]
    fn offline_an_empty_cache_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { offline: true, ..Options::default() };
        let error = fetch(&Cache::at(folder.path()), &options, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("tierctl qemu fetch"), "{error}");
    }

    #[test]
    fn room_is_checked_first() {
        let folder = tempfile::tempdir().unwrap();
        check_room(folder.path(), 1).unwrap();
        let error = check_room(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRoom);
        assert!(error.to_string().contains("MiB are needed"), "{error}");
    }
}
