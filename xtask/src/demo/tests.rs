//! The demo's own parts against a plain redis-server.

use std::process::Stdio;

use super::*;

const KEYS: u64 = 2_000;

fn plain_server(folder: &Path) -> Option<Server> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("SKIP {}: redis-server is not installed", std::thread::current().name().unwrap_or("demo"));
        return None;
    }
    let port = server::free_port(None).unwrap();
    let mut command = Command::new("redis-server");
    Some(Server::start(&mut command, &Config { folder, name: "redis", port }).unwrap())
}

#[test]
fn right_values_are_right_and_a_changed_one_is_noticed() {
    let folder = Scratch::new("values");
    let Some(server) = plain_server(&folder.0) else { return };
    let mut client = server.connect().unwrap();
    let bytes = load::set(&mut client, 0..KEYS, 0).unwrap();
    assert!(bytes > KEYS * 16);
    let verdict = load::verify(&mut client, 0..KEYS, |_| 0).unwrap();
    assert_eq!((verdict.right, verdict.wrong), (KEYS, 0));

    client.ask(&["SETRANGE", &values::name(7), "3", "?????"]).unwrap();
    client.ask(&["DEL", &values::name(8)]).unwrap();
    let verdict = load::verify(&mut client, 0..KEYS, |_| 0).unwrap();
    assert_eq!((verdict.right, verdict.wrong), (KEYS - 2, 2));
    assert!(verdict.examples[1].contains("(nil)"), "{:?}", verdict.examples);
    assert!(server.stop().unwrap().success());
}

#[test]
fn a_save_holds_the_values_of_the_moment_of_the_fork() {
    let folder = Scratch::new("save");
    let Some(mut server) = plain_server(&folder.0) else { return };
    let no_tier = folder.0.join("no-tier");
    let findings = exercise(&mut server, KEYS, &no_tier).unwrap();
    // Without tiering nothing is on the slow tier, and both looks say so.
    assert_eq!(findings.complaints.len(), 2, "{:?}", findings.complaints);
    assert_eq!(server.connect().unwrap().ask(&["DBSIZE"]).unwrap(), Reply::Integer(KEYS.cast_signed()));
    server.stop().unwrap();

    let workspace = Workspace::find().unwrap();
    let mut of_save = Findings::default();
    check_save(&workspace, &folder.0, KEYS, &mut of_save).unwrap();
    assert!(of_save.complaints.is_empty(), "{:?}", of_save.complaints);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = Scratch::new("broken");
    if plain_server(&folder.0).is_none() {
        return;
    }
    let mut command = Command::new("redis-server");
    command.args(["--no-such-option", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
    let config = Config { folder: &folder.0, name: "broken", port: server::free_port(None).unwrap() };
    let error = Server::start(&mut command, &config).unwrap_err().to_string();
    assert!(error.contains("ended at once"), "{error}");
}

/// A folder for one test, removed afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tiermem-xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
