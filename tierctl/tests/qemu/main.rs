//! What goes wrong in the lab, as its users see it: messages and exit codes, with a double in place of QEMU.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod mirror;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mirror::{Mirror, SUITE};
use tiermem_qemu::cache::{Cache, Part};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

/// A lab whose parts are all doubles.
struct Lab {
    folder: tempfile::TempDir,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    said: String,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(lab.path("modules/9.9/kernel")).unwrap();
        fs::write(lab.path("vmlinux"), vmlinux()).unwrap();
        fs::write(lab.path("busybox"), "a busybox").unwrap();
        fs::write(lab.path("qemu"), include_str!("double.py")).unwrap();
        fs::set_permissions(lab.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn qemu(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TIERCTL);
        command.arg("qemu").args(arguments).stdin(Stdio::null()).env("TIERMEM_LAB_CACHE", self.path("cache"));
        command.env("DOUBLE_COUNT", self.path("count")).env_remove("LD_PRELOAD");
        command
    }

    /// Runs a program in a topology on a QEMU that behaves so.
    fn run(&self, double: &str, topology: &str, limit_s: u32, command: &[&str]) -> Ended {
        let text = |name: &str| self.path(name).display().to_string();
        let mut run = self.qemu(&["run", "--boot-timeout", &limit_s.to_string()]);
        run.args(["--qemu", &text("qemu"), "--kernel", &text("vmlinux"), "--modules", &text("modules/9.9")]);
        run.args(["--busybox", &text("busybox"), "--log", &text("log"), topology, "--"]).args(command);
        ended(run.env("DOUBLE", double))
    }

    /// A download from this mirror.
    fn fetch(&self, mirror: &Mirror) -> Command {
        let mut fetch = self.qemu(&["fetch", "--suite", SUITE, "--mirror", &mirror.url(), "--keyring"]);
        fetch.arg(mirror.keyring()).env_remove("http_proxy").env_remove("HTTP_PROXY");
        fetch
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.path("count")).unwrap_or_default().lines().count()
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended { code: output.status.code(), said: String::from_utf8_lossy(&output.stderr).into_owned() }
}

impl Ended {
    /// The exit code, and what people are told.
    #[track_caller]
    fn is(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.said);
        for word in words {
            assert!(self.said.contains(word), "`{word}` is not in: {}", self.said);
        }
    }
}

/// A kernel with nothing but the note that says where it could be entered.
fn vmlinux() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    let (header_len, segment_len) = (64_u64, 56_u16);
    elf[16..18].copy_from_slice(&2_u16.to_le_bytes());
    elf[18..20].copy_from_slice(&62_u16.to_le_bytes());
    elf[20..24].copy_from_slice(&1_u32.to_le_bytes());
    elf[32..40].copy_from_slice(&header_len.to_le_bytes());
    elf[52..54].copy_from_slice(&64_u16.to_le_bytes());
    elf[54..56].copy_from_slice(&segment_len.to_le_bytes());
    elf[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let note = [&4_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), &18_u32.to_le_bytes(), b"Xen\0", &[0; 4]].concat();
    let at = header_len + u64::from(segment_len);
    elf.extend(4_u32.to_le_bytes());
    elf.extend(4_u32.to_le_bytes());
    for value in [at, 0, 0, note.len() as u64, note.len() as u64, 4] {
        elf.extend(value.to_le_bytes());
    }
    elf.extend(note);
    elf
}

#[test]
fn a_topology_that_is_none() {
    let lab = Lab::new();
    lab.run("refuses", "no-such-topology", 60, &["true"]).is(3, &["no-such-topology"]);
    fs::write(lab.path("bad.toml"), "version = 1\nname = 7\n").unwrap();
    lab.run("refuses", lab.path("bad.toml").to_str().unwrap(), 60, &["true"]).is(6, &["name"]);
}

#[test]
fn nothing_was_fetched() {
    let lab = Lab::new();
    ended(&mut lab.qemu(&["run", "one-expander", "--", "true"])).is(3, &["tierctl qemu fetch"]);
    ended(&mut lab.qemu(&["exec", "--topology", "one-expander", "true"])).is(3, &["tierctl qemu fetch"]);
    ended(&mut lab.qemu(&["fetch", "--offline"])).is(3, &["tierctl qemu fetch"]);
}

#[test]
fn programs_that_cannot_run() {
    let lab = Lab::new();
    let run = |program: &Path| lab.run("refuses", "one-expander", 60, &[program.to_str().unwrap()]);
    run(Path::new("/no/such/program")).is(127, &["/no/such/program"]);
    run(&lab.path("vmlinux")).is(126, &["not an executable file"]);
    fs::write(lab.path("script"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(lab.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    run(&lab.path("script")).is(126, &["/no/such/interpreter"]);
    assert_eq!(lab.starts(), 0, "all of this is known before anything starts");
}

#[test]
fn a_library_that_is_missing_is_named() {
    let lab = Lab::new();
    let compile = |arguments: &[&str]| {
        let source = lab.path("x.c");
        fs::write(&source, "int f(void) { return 0; } int main(void) { return f(); }").unwrap();
        Command::new("cc").args(arguments).arg(&source).current_dir(lab.folder.path()).status().unwrap().success()
    };
    assert!(compile(&["-shared", "-fPIC", "-o", "libgoneaway.so"]));
    assert!(compile(&["-o", "wants", "-Wl,--no-as-needed", "-L.", "-lgoneaway"]));
    fs::remove_file(lab.path("libgoneaway.so")).unwrap();
    let program = lab.path("wants");
    let ended = lab.run("refuses", "one-expander", 60, &[program.to_str().unwrap()]);
    ended.is(126, &["libgoneaway.so", "wants", "LD_LIBRARY_PATH"]);
}

#[test]
fn a_machine_that_is_too_large_is_not_started() {
    let lab = Lab::new();
    let shipped = tiermem_topology::SHIPPED.iter().find(|(name, _)| *name == "one-expander").unwrap().1;
    let large = shipped.replace("capacity = \"2G\"", "capacity = \"64T\"");
    assert_ne!(shipped, large);
    fs::write(lab.path("large.toml"), large).unwrap();
    let ended = lab.run("refuses", lab.path("large.toml").to_str().unwrap(), 60, &["true"]);
    ended.is(125, &["MiB of memory are needed", "are free"]);
}

#[test]
fn what_qemu_does_not_accept_is_said_in_its_words() {
    let lab = Lab::new();
    lab.run("refuses", "one-expander", 60, &["true"]).is(125, &["this is not understood", "The log is in"]);
}

/// And only such boots are tried again.
#[test]
fn a_boot_that_dies_before_the_first_program_is_tried_again() {
    let lab = Lab::new();
    let ended = lab.run("panics", "one-expander", 60, &["true"]);
    ended.is(125, &["trying again", "Kernel panic - not syncing: planted", "BUG: planted"]);
    assert_eq!(ended.said.matches("trying again").count(), 2);
    assert_eq!(lab.starts(), 3);
    assert!(lab.path("log/console-1.log").is_file(), "the console of a failed boot is kept");
}

#[test]
fn a_guest_that_never_speaks_runs_into_the_limit_once() {
    let lab = Lab::new();
    let ended = lab.run("silent", "one-expander", 1, &["true"]);
    ended.is(124, &["booting took more than 1 s", "the last line before nothing"]);
    assert!(!ended.said.contains("trying again") && lab.starts() == 1, "{}", ended.said);
    lab.run("deaf", "one-expander", 1, &["true"]).is(124, &["QEMU opens no"]);
}

#[test]
fn memory_that_does_not_come_up_is_the_kernels_reason() {
    let lab = Lab::new();
    let ended = lab.run("no-region", "one-expander", 60, &["true"]);
    ended.is(125, &["create_ram_region: planted (EBUSY)"]);
    assert_eq!(lab.starts(), 1);
}

/// Guests that share memory wait for each other: if one does not start, the others need not run into their limit.
#[test]
fn one_guest_of_a_pool_that_does_not_start_ends_the_others() {
    const LIMIT_S: u32 = 3600;
    let why = [
        ("refuses", "QEMU does not start this machine", 125),
        ("no-region", "create_ram_region: planted (EBUSY)", 125),
        ("panics", "Kernel panic - not syncing: planted", 125),
    ];
    for (double, word, code) in why {
        let lab = Lab::new();
        let start = std::time::Instant::now();
        let ended = lab.run(&format!("host0:silent,host1:{double}"), "pool-2", LIMIT_S, &["true"]);
        ended.is(code, &["tierctl: host1: ", word, "the other guest was ended", "The log is in"]);
        assert!(!ended.said.contains("host0: "), "{}", ended.said);
        // The limit of the one that is silent is an hour; no time is asserted that a busy machine could miss.
        assert!(start.elapsed().as_secs() < u64::from(LIMIT_S) / 2);
    }
    // One that takes no connection at all.
    let ended = Lab::new().run("host0:deaf,host1:refuses", "pool-2", LIMIT_S, &["true"]);
    ended.is(125, &["tierctl: host1: ", "the other guest was ended"]);
}

/// The keeper of a shared guest tells its client what went wrong, and is gone.
#[test]
fn a_shared_guest_that_does_not_boot() {
    let lab = Lab::new();
    let text = |name: &str| lab.path(name).display().to_string();
    let mut exec = lab.qemu(&["exec", "--topology", "one-expander", "--boot-timeout", "60", "--qemu", &text("qemu")]);
    exec.args(["--kernel", &text("vmlinux"), "--modules", &text("modules/9.9"), "--busybox", &text("busybox"), "true"]);
    ended(exec.env("DOUBLE", "no-region")).is(125, &["create_ram_region: planted (EBUSY)", "The log is in"]);
    ended(&mut lab.qemu(&["stop", "no-such-topology"])).is(3, &["no-such-topology"]);
}

#[test]
fn a_shell_without_a_terminal() {
    ended(&mut Lab::new().qemu(&["shell", "one-expander"])).is(2, &["needs a terminal", "qemu run"]);
}

#[test]
fn a_mirror_that_cannot_be_reached() {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !there("apt-get") || !there("dpkg-deb") {
        eprintln!("SKIP a_mirror_that_cannot_be_reached: apt is not installed");
        return;
    }
    let lab = Lab::new();
    let keyring = lab.path("busybox").display().to_string();
    let arguments = ["fetch", "--mirror", "http://127.0.0.1:9/debian", "--keyring", &keyring];
    let mut fetch = lab.qemu(&arguments);
    fetch.env_remove("http_proxy").env_remove("HTTP_PROXY");
    ended(&mut fetch).is(1, &["cannot get the lists of packages", "127.0.0.1"]);
}

/// Connections break again and again: what has come is kept, also for the next call, and is not asked for again.
#[test]
fn a_download_that_was_cut_is_continued() {
    const KERNEL: &str = "linux-image-cloud-amd64";
    const CUT: usize = 300 << 10;
    let Some(mirror) = Mirror::start() else { return };
    let lab = Lab::new();
    mirror.cut(Some(CUT));
    ended(&mut lab.fetch(&mirror)).is(1, &["cannot get linux-image-cloud-amd64", "run it again"]);
    let first = mirror.given(KERNEL);
    let came: usize = first.iter().map(|(_, count)| count).sum();
    assert!(!first.is_empty() && came >= CUT && first.iter().all(|&(_, count)| count == CUT), "{first:?}");
    mirror.cut(None);
    ended(&mut lab.fetch(&mirror)).is(0, &[]);
    let [(begin, count)] = mirror.given(KERNEL)[..] else { panic!("the rest in one piece") };
    assert!(begin > 0, "it began anew");
    // A part of what a broken connection had brought may be lost on its way, but no more than that.
    assert!(begin + CUT >= came && begin <= came, "{came} bytes had come, and it went on from {begin}");
    let noise = lab.path("cache/kernel-9.9/usr/lib/modules/9.9/kernel/noise");
    assert_eq!(fs::metadata(noise).unwrap().len(), 3 << 20);
    assert!(begin + count > 3 << 20);
    // All is here, and nobody is asked any more.
    let offline = |more: &[&str]| {
        let mut fetch = lab.qemu(&["fetch", "--offline", "--suite", SUITE]);
        ended(fetch.args(more).env("PATH", "/nonexistent"))
    };
    assert_eq!(offline(&[]).said, "");

    // An update leaves the kernel that it supersedes, and says so.
    let cache = Cache::at(&lab.path("cache"));
    let kernel = cache.parts().unwrap().into_iter().find(|part| part.name == "kernel-9.9").unwrap();
    cache.enter(Part { name: "kernel-9.8".into(), ..kernel }).unwrap();
    fs::create_dir(lab.path("cache/kernel-9.8")).unwrap();
    offline(&[]).is(0, &["kernel-9.8 is superseded", "--prune"]);
    offline(&["--prune"]).is(0, &["kernel-9.8 is removed"]);
    assert!(!lab.path("cache/kernel-9.8").exists() && lab.path("cache/kernel-9.9").exists());
    assert_eq!(offline(&[]).said, "");
}

/// Within one call, too: a line that breaks once is no failure.
#[test]
fn a_line_that_breaks_once_is_no_failure() {
    let Some(mirror) = Mirror::start() else { return };
    let lab = Lab::new();
    // Of 3 MiB and some, two pieces.
    mirror.cut(Some(2 << 20));
    ended(&mut lab.fetch(&mirror)).is(0, &[]);
    let given = mirror.given("linux-image-cloud-amd64");
    assert!(given.len() == 2 && given[0] == (0, 2 << 20) && given[1].0 > 0, "{given:?}");
}

/// The signature is another one's.
#[test]
fn a_mirror_that_somebody_else_signed() {
    let (Some(mirror), Some(other)) = (Mirror::start(), Mirror::start()) else { return };
    let lab = Lab::new();
    let mut fetch = lab.qemu(&["fetch", "--suite", SUITE, "--mirror", &mirror.url(), "--keyring"]);
    fetch.arg(other.keyring()).env_remove("http_proxy").env_remove("HTTP_PROXY");
    ended(&mut fetch).is(1, &["cannot get the lists of packages", "is not signed"]);
    assert!(mirror.given("").is_empty(), "no package was fetched");
}

/// On a file system of its own: too small for what is known to come, and so small that apt itself notices.
#[test]
fn a_disk_without_room() {
    let Some(mirror) = Mirror::start() else { return };
    for (size, words) in
        [("6m", &["cache", "MiB are needed", "MiB are free"][..]), ("32k", &["No space left on device"])]
    {
        let lab = Lab::new();
        fs::create_dir(lab.path("cache")).unwrap();
        let fetch = lab.fetch(&mirror);
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=$0 none \"$TIERMEM_LAB_CACHE\" || exit 99; exec \"$@\"";
        command
            .args(["--map-root-user", "--mount", "sh", "-c", script, size])
            .arg(fetch.get_program())
            .args(fetch.get_args());
        command.env("TIERMEM_LAB_CACHE", lab.path("cache")).env_remove("http_proxy").env_remove("HTTP_PROXY");
        let ended = ended(command.stdin(Stdio::null()));
        if ended.said.contains("unshare") || ended.code == Some(99) {
            eprintln!("SKIP a_disk_without_room: no file system can be mounted here: {}", ended.said);
            return;
        }
        ended.is(1, words);
    }
}

#[test]
fn a_topology_is_shown_and_drawn() {
    let lab = Lab::new();
    let file = lab.path("picture.svg");
    let mut show = lab.qemu(&["show", "one-expander", "--svg"]);
    let output = show.arg(&file).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("cxl-type3"));
    assert!(fs::read_to_string(file).unwrap().starts_with("<svg"));
    ended(lab.qemu(&["show", "one-expander", "--svg"]).arg("/no/such/folder/x.svg")).is(3, &["/no/such/folder"]);
}
