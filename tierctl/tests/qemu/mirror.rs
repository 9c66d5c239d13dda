//! A mirror of a Debian that has three small packages, on this machine: signed, and as unreliable as one likes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

/// The release that it calls itself.
pub const SUITE: &str = "tiny";
/// What the kernel's package holds beside a kernel, bytes.
const WEIGHT: usize = 3 << 20;

/// The mirror. It serves until the process ends.
pub struct Mirror {
    folder: TempDir,
    port: u16,
    state: Arc<Mutex<State>>,
}

/// Files of a package: places and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

#[derive(Default)]
struct State {
    /// Of packages, a connection gives so many bytes before it breaks; all if none.
    cut: Option<usize>,
    /// For each request for a package the byte that it began with, and how many bytes it got.
    given: Vec<(String, usize, usize)>,
}

impl Mirror {
    /// `None`, and that is said, where the tools lack that make and read packages.
    pub fn start() -> Option<Self> {
        for tool in ["apt-get", "dpkg-deb", "gpg", "gpgconf", "sha256sum"] {
            if Command::new(tool).arg("--version").output().is_err() {
                let test = std::thread::current().name().unwrap_or("test").to_owned();
                eprintln!("SKIP {test}: {tool} is not installed");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = Self { folder, port: listener.local_addr().unwrap().port(), state: Arc::default() };
        mirror.fill();
        let (root, state) = (mirror.path("debian"), mirror.state.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, state) = (root.clone(), state.clone());
                std::thread::spawn(move || serve(stream, &root, &state));
            }
        });
        Some(mirror)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/debian", self.port)
    }

    pub fn keyring(&self) -> PathBuf {
        self.path("keyring.gpg")
    }

    /// From now on connections break after so many bytes of a package.
    pub fn cut(&self, after: Option<usize>) {
        self.state.lock().unwrap().cut = after;
    }

    /// What was asked for since the last call of a package whose name begins so: the first byte, and how many were given.
    pub fn given(&self, package: &str) -> Vec<(usize, usize)> {
        let all = std::mem::take(&mut self.state.lock().unwrap().given);
        all.into_iter().filter(|(name, ..)| name.starts_with(package)).map(|(_, from, count)| (from, count)).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fill(&self) {
        let mut number = 0x9e37_79b9_7f4a_7c15_u64;
        let noise: Vec<u8> = (0..WEIGHT / 8)
            .flat_map(|_| {
                number ^= number << 13;
                number ^= number >> 7;
                number ^= number << 17;
                number.to_le_bytes()
            })
            .collect();
        let kernel = [("boot/vmlinuz-9.9", &b"a kernel"[..]), ("usr/lib/modules/9.9/kernel/noise", &noise)];
        let backports = format!("{SUITE}-backports");
        self.suite(SUITE, &[("busybox-static", &[("usr/bin/busybox", b"a busybox")])]);
        self.suite(
            &backports,
            &[("qemu-system-x86", &[("usr/bin/qemu-system-x86_64", b"a qemu")]), ("linux-image-cloud-amd64", &kernel)],
        );
        self.sign(&[SUITE, &backports]);
    }

    /// Packages and their list.
    fn suite(&self, suite: &str, packages: &[(&str, Files<'_>)]) {
        let mut list = String::new();
        for (name, files) in packages {
            let tree = self.path(&format!("trees/{suite}/{name}"));
            let control = format!(
                "Package: {name}\nVersion: 9.9\nArchitecture: amd64\nMaintainer: nobody <nobody@localhost>\n\
                 Description: for a test\n"
            );
            write(&tree.join("DEBIAN/control"), control.as_bytes());
            files.iter().for_each(|(file, bytes)| write(&tree.join(file), bytes));
            let place = format!("pool/{suite}/{name}_9.9_amd64.deb");
            let package = self.path("debian").join(&place);
            fs::create_dir_all(package.parent().unwrap()).unwrap();
            said(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).args([&tree, &package]));
            let (size, sum) = (fs::metadata(&package).unwrap().len(), sum(&package));
            list.push_str(&format!("{control}Filename: {place}\nSize: {size}\nSHA256: {sum}\n\n"));
        }
        write(&self.path("debian").join(format!("dists/{suite}/main/binary-amd64/Packages")), list.as_bytes());
    }

    fn sign(&self, suites: &[&str]) {
        let home = self.path("gnupg");
        fs::DirBuilder::new().create(&home).unwrap();
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let gpg = || {
            let mut command = Command::new("gpg");
            command.env("GNUPGHOME", &home).args(["--batch", "--quiet", "--yes", "--passphrase", ""]);
            command
        };
        said(gpg().args(["--quick-generate-key", "mirror@localhost", "rsa3072", "sign", "never"]));
        let keys = said(gpg().arg("--export"));
        fs::write(self.keyring(), keys).unwrap();
        for suite in suites {
            let folder = self.path("debian").join(format!("dists/{suite}"));
            let list = folder.join("main/binary-amd64/Packages");
            let date = said(Command::new("date").args(["-Ru"]));
            let text = format!(
                "Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {}\nArchitectures: amd64\nComponents: main\n\
                 SHA256:\n {} {} main/binary-amd64/Packages\n",
                String::from_utf8(date).unwrap().trim(),
                sum(&list),
                fs::metadata(&list).unwrap().len()
            );
            write(&folder.join("Release"), text.as_bytes());
            said(gpg().args(["--clearsign", "-o"]).args([folder.join("InRelease"), folder.join("Release")]));
        }
        // Its agent would stay.
        said(Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", &home));
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn said(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sum(path: &Path) -> String {
    let text = String::from_utf8(said(Command::new("sha256sum").arg(path))).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

/// One connection; requests come one after the other.
fn serve(stream: TcpStream, root: &Path, state: &Mutex<State>) {
    let mut from = BufReader::new(stream.try_clone().unwrap());
    let mut to = stream;
    while let Some((path, fields)) = request(&mut from) {
        let file = root.join(path.trim_start_matches("/debian/"));
        let Ok(bytes) = fs::read(&file) else {
            let _ = to.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            continue;
        };
        let range = fields.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let begin: usize = range.unwrap_or(0).min(bytes.len());
        let status = if begin > 0 { "206 Partial Content" } else { "200 OK" };
        let mut head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            bytes.len() - begin
        );
        if begin > 0 {
            head.push_str(&format!("Content-Range: bytes {begin}-{}/{}\r\n", bytes.len() - 1, bytes.len()));
        }
        let _ = to.write_all(format!("{head}\r\n").as_bytes());
        let is_package = file.extension().is_some_and(|extension| extension == "deb");
        let cut = state.lock().unwrap().cut.filter(|_| is_package);
        let end = cut.map_or(bytes.len(), |cut| bytes.len().min(begin + cut));
        if is_package {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            state.lock().unwrap().given.push((name, begin, end - begin));
        }
        if to.write_all(&bytes[begin..end]).is_err() || end < bytes.len() {
            // What was sent arrives before the end does.
            let _ = to.shutdown(std::net::Shutdown::Write);
            let _ = from.read_to_end(&mut Vec::new());
            return;
        }
    }
}

/// Path and fields of the next request.
fn request(from: &mut impl BufRead) -> Option<(String, BTreeMap<String, String>)> {
    let mut lines = from.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Some((path, fields.collect()))
}
