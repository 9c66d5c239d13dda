//! A private root for apt: its own lists, archives, sources and status, so that the host's are neither used nor changed. apt
//! itself verifies: the lists by their signature against the keyring, each package by its hash in the lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tiermem_sys::child;

use super::Progress;
use crate::error::{Context, Error, ErrorKind, Result};

/// Packages that kernel packages ask for and that nobody needs who only unpacks them: here they count as installed.
const NOT_NEEDED: [&str; 3] = ["initramfs-tools", "kmod", "linux-base"];

/// The private root.
#[derive(Clone, Debug)]
pub struct Apt {
    root: PathBuf,
}

/// A package that is to be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The file in the folder of archives.
    pub file: String,
    /// Its size, bytes.
    pub size: u64,
}

impl Apt {
    /// Sets the root up in `root`, for these suites of the mirror, signed by a key of `keyring`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without apt or the keyring; those of the file system.
    pub fn set_up(root: &Path, mirror: &str, suites: &[&str], keyring: &Path) -> Result<Self> {
        if !keyring.is_file() {
            let why = format!(
                "{}: the keys that Debian's archive is signed with are not here. Install debian-archive-keyring, or name \
                 the keyring with --keyring.",
                keyring.display()
            );
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        for folder in
            ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log", "dpkg"]
        {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).at(&folder)?;
        }
        let source = |suite: &&str| format!("deb [signed-by={}] {mirror} {suite} main\n", keyring.display());
        let write = |name: &str, text: String| fs::write(root.join(name), text).at(&root.join(name));
        write("etc/sources.list", suites.iter().map(source).collect())?;
        let installed = |name: &&str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nVersion: 9999\nArchitecture: all\n\
                 Maintainer: nobody <nobody@localhost>\nDescription: not needed where packages are only unpacked\n\n"
            )
        };
        write("dpkg/status", NOT_NEEDED.iter().map(installed).collect())?;
        let shown = root.display();
        write(
            "apt.conf",
            format!(
                "Dir \"{shown}\";\nDir::State \"{shown}/state\";\nDir::State::status \"{shown}/dpkg/status\";\n\
                 Dir::Cache \"{shown}/cache\";\nDir::Etc \"{shown}/etc\";\nDir::Log \"{shown}/log\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"\";\n\
                 APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n\
                 Acquire::GzipIndexes \"true\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\nAcquire::Retries \"3\";\n"
            ),
        )?;
        Ok(Self { root: root.to_path_buf() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.root.join("apt.conf"))
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null());
        child::dies_with_its_starter(&mut command);
        command
    }

    /// Gets the lists of packages and verifies their signatures.
    ///
    /// # Errors
    /// [`ErrorKind::Download`] with apt's own words.
    pub fn update(&self) -> Result<()> {
        let mut command = self.command("apt-get");
        // Without this, apt takes a mirror that cannot be reached for a warning.
        command.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        let (done, said) = output(&mut command)?;
        if done { Ok(()) } else { Err(refused("the lists of packages", &said)) }
    }

    /// What must be downloaded for `names` from `suite`, dependencies included and what is there already left out.
    ///
    /// # Errors
    /// [`ErrorKind::Download`] if apt knows no such package.
    pub fn missing(&self, names: &[&str], suite: &str) -> Result<Vec<Package>> {
        Ok(self.uris(names, suite, &[])?.into_iter().filter(|package| !self.archive(&package.file).is_file()).collect())
    }

    /// All packages that `names` from `suite` consist of, as files.
    ///
    /// # Errors
    /// As [`Apt::missing`].
    pub fn parts(&self, names: &[&str], suite: &str) -> Result<Vec<Package>> {
        let nowhere = self.root.join("nothing");
        fs::create_dir_all(nowhere.join("partial")).at(&nowhere)?;
        self.uris(names, suite, &["-o", &format!("Dir::Cache::archives={}", nowhere.display())])
    }

    fn uris(&self, names: &[&str], suite: &str, more: &[&str]) -> Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        command.args(["-q", "-y", "--print-uris", "-t", suite]).args(more).arg("install").args(names);
        let (done, said) = output(&mut command)?;
        if !done {
            return Err(refused(&names.join(" "), &said));
        }
        Ok(said.lines().filter_map(package).collect())
    }

    /// Downloads them, telling `progress` how far it is; what was begun before is continued.
    ///
    /// # Errors
    /// [`ErrorKind::Download`] with apt's own words.
    pub fn download(&self, names: &[&str], suite: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
        let missing = self.missing(names, suite)?;
        let total: u64 = missing.iter().map(|package| package.size).sum();
        let log = self.root.join("log/download");
        let file = fs::File::create(&log).at(&log)?;
        let mut command = self.command("apt-get");
        command.args(["-q", "-y", "--download-only", "-t", suite, "install"]).args(names);
        command.stderr(file.try_clone().at(&log)?).stdout(file);
        let mut running = command.spawn().context("apt-get")?;
        loop {
            let status = running.try_wait().context("apt-get")?;
            let done = missing.iter().map(|package| self.present(&package.file)).sum::<u64>().min(total);
            progress(Progress::Bytes { done, total });
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(_) => {
                    let error = refused(&names.join(" "), &fs::read_to_string(&log).unwrap_or_default());
                    return Err(error.followed_by("\nWhat has come is kept: run it again to go on."));
                }
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// How many bytes of this package are here.
    fn present(&self, file: &str) -> u64 {
        let partial = self.root.join("cache/archives/partial").join(file);
        [self.archive(file), partial].iter().filter_map(|path| fs::metadata(path).ok()).map(|data| data.len()).sum()
    }

    /// Where a downloaded package lies.
    pub fn archive(&self, file: &str) -> PathBuf {
        self.root.join("cache/archives").join(file)
    }

    /// Unpacks a downloaded package below `into`.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] on a full disk; [`ErrorKind::Failed`] with the words of dpkg-deb.
    pub fn unpack(&self, file: &str, into: &Path) -> Result<()> {
        let mut command = self.command("dpkg-deb");
        command.arg("--extract").arg(self.archive(file)).arg(into);
        match output(&mut command)? {
            (true, _) => Ok(()),
            (false, said) if said.contains("No space left") => Err(Error::new(ErrorKind::NoRoom, said)),
            (false, said) => Err(Error::new(ErrorKind::Failed, format!("cannot unpack {file}: {}", said.trim()))),
        }
    }

    /// Forgets downloaded packages that have been unpacked.
    pub fn clean(&self, packages: &[Package]) {
        for package in packages {
            let _ = fs::remove_file(self.archive(&package.file));
        }
    }
}

/// A line of `--print-uris`: `'URI' FILE SIZE HASH`.
fn package(line: &str) -> Option<Package> {
    let (_, rest) = line.strip_prefix('\'')?.split_once('\'')?;
    let mut words = rest.split_whitespace();
    let file = words.next()?.to_owned();
    Some(Package { file, size: words.next()?.parse().ok()? })
}

fn output(command: &mut Command) -> Result<(bool, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(ErrorKind::Unsupported, format!("{program} is not on this machine")),
        _ => Error::from_io(&program, &error),
    })?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

fn refused(what: &str, said: &str) -> Error {
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("E:") || line.starts_with("Err:")).collect();
    let said = if errors.is_empty() { said.trim().to_owned() } else { errors.join("\n") };
    let kind = if said.contains("No space left") { ErrorKind::NoRoom } else { ErrorKind::Download };
    Error::new(kind, format!("cannot get {what}:\n{said}"))
}

#[cfg(test)]
mod tests {
    use super::{Apt, Package, package};
    use crate::ErrorKind;
    use std::path::Path;

    #[test]
    fn what_apt_prints_is_understood() {
        let line = "'http://m/pool/q_1%3a11+ds-1_amd64.deb' q_1%3a11+ds-1_amd64.deb 10377056 SHA256:abc";
        assert_eq!(package(line), Some(Package { file: "q_1%3a11+ds-1_amd64.deb".into(), size: 10_377_056 }));
        assert_eq!(package("Reading package lists..."), None);
    }

    #[test]
    fn without_keys_nothing_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let error = Apt::set_up(folder.path(), "http://m/debian", &["x"], Path::new("/no/keyring")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("debian-archive-keyring"), "{error}");
    }

    /// A mirror that is not there, and one that nobody signed.
    #[test]
    fn a_mirror_that_cannot_be_trusted_is_refused() {
        if std::process::Command::new("apt-get").arg("--version").output().is_err() {
            eprintln!("SKIP a_mirror_that_cannot_be_trusted_is_refused: apt is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror/debian");
        std::fs::create_dir_all(mirror.join("dists/x/main/binary-amd64")).unwrap();
        let keyring = folder.path().join("keyring.gpg");
        std::fs::write(&keyring, "").unwrap();
        let apt = |mirror: &str| Apt::set_up(&folder.path().join("apt"), mirror, &["x"], &keyring).unwrap();
        assert_eq!(apt("file:/no/such/debian").update().unwrap_err().kind(), ErrorKind::Download);
        std::fs::write(mirror.join("dists/x/Release"), "Suite: x\nCodename: x\nComponents: main\n").unwrap();
        let error = apt(&format!("file:{}", mirror.display())).update().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Download);
        assert!(error.to_string().contains("not signed"), "{error}");
    }
}
