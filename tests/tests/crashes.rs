//! A real program that keeps records across crashes, killed at each of its persist points: right, and with a mistake of each
//! kind that such programs have.

use std::fs;
use std::path::Path;
use std::process::Command;

use tiermem_emulator::fault::{Crash, Durable, LINE, Sweep, at_every_point};

/// Names the folder and the mistake of the program; set in the processes that are killed.
const ROLE: &str = "TIERMEM_TEST_CRASHING";

const RECORDS: u64 = 3;
const PAYLOAD: usize = 2 * LINE as usize;
/// Two lines of payload and one with the commit word.
const RECORD: u64 = PAYLOAD as u64 + LINE;
const LEN: u64 = RECORDS * RECORD;
const SEEDS: [u64; 3] = [0, 1, 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    CommitsBeforeThePayload,
    ForgetsTheFenceBetween,
    FlushesOneLineOfTwo,
    PromisesBeforeTheFence,
    CommitsInTwoWords,
}

const ALL: [Mistake; 6] = [
    Mistake::None,
    Mistake::CommitsBeforeThePayload,
    Mistake::ForgetsTheFenceBetween,
    Mistake::FlushesOneLineOfTwo,
    Mistake::PromisesBeforeTheFence,
    Mistake::CommitsInTwoWords,
];

fn payload(record: u64) -> [u8; PAYLOAD] {
    std::array::from_fn(|i| (i as u64 * 7 + record * 31 + 1) as u8)
}

/// The program: appends records, and promises each one (a line of a file of its own) when it is safe.
fn append_all(folder: &Path, mistake: Mistake) -> std::io::Result<()> {
    let crash = Crash::from_environment().map_err(std::io::Error::other)?;
    let mut memory = Durable::open(&folder.join("pmem"), LEN, crash)?;
    for record in 0..RECORDS {
        let start = record * RECORD;
        let commit = start + PAYLOAD as u64;
        if mistake == Mistake::CommitsBeforeThePayload {
            memory.store(commit, &(record + 1).to_le_bytes())?;
            memory.flush(commit, 8)?;
            memory.fence()?;
        }
        memory.store(start, &payload(record))?;
        memory.flush(start, if mistake == Mistake::FlushesOneLineOfTwo { 8 } else { PAYLOAD })?;
        if mistake != Mistake::ForgetsTheFenceBetween {
            memory.fence()?;
        }
        let word = (record + 1).to_le_bytes();
        match mistake {
            Mistake::CommitsInTwoWords => memory.store(commit, &[word, word].concat())?,
            _ => memory.store(commit, &word)?,
        }
        let promise = |record: u64| fs::write(folder.join(format!("promised-{record}")), "");
        if mistake == Mistake::PromisesBeforeTheFence {
            promise(record)?;
        }
        memory.flush(commit, 8)?;
        memory.fence()?;
        promise(record)?;
    }
    Ok(())
}

/// What recovery finds wrong.
fn recover(folder: &Path, mistake: Mistake) -> Result<(), String> {
    let bytes = fs::read(folder.join("pmem")).map_err(|error| error.to_string())?;
    let word = |at: u64| bytes[at as usize..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    for record in 0..RECORDS {
        let start = record * RECORD;
        let commit = start + PAYLOAD as u64;
        let committed = word(commit);
        if mistake == Mistake::CommitsInTwoWords && word(commit + 8) != committed {
            return Err(format!("the commit of record {record} is torn"));
        }
        if committed != 0 && committed != record + 1 {
            return Err(format!("the commit of record {record} is {committed}"));
        }
        if committed != 0 && bytes[start as usize..][..PAYLOAD] != payload(record) {
            return Err(format!("record {record} is committed and damaged"));
        }
        if committed == 0 && folder.join(format!("promised-{record}")).exists() {
            return Err(format!("record {record} was promised and is lost"));
        }
    }
    Ok(())
}

/// The program as a process of its own: only if this one was started as that.
#[test]
fn program() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    let role = role.into_string().expect("text");
    let (mistake, folder) = role.split_once(':').expect("a mistake and a folder");
    let mistake = ALL.into_iter().find(|known| format!("{known:?}") == mistake).expect("a mistake");
    append_all(Path::new(folder), mistake).expect("no I/O error");
}

fn sweep(mistake: Mistake) -> Result<Sweep, String> {
    let parent = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let folder = parent.path().join("work");
    let prepare = || {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
        command.args(["program", "--exact", "--test-threads=1"]);
        command.env(ROLE, format!("{mistake:?}:{}", folder.display()));
        command
    };
    at_every_point(&SEEDS, prepare, |crash| {
        if crash.is_none() && (0..RECORDS).any(|record| !folder.join(format!("promised-{record}")).exists()) {
            return Err("a record is missing at the end".to_owned());
        }
        recover(&folder, mistake)
    })
}

#[test]
fn the_right_program_loses_nothing_at_any_point() {
    let sweep = sweep(Mistake::None).unwrap_or_else(|error| panic!("{error}"));
    // Six points a record: store, flush and fence of the payload and of the commit.
    assert_eq!(sweep, Sweep { points: 18, crashes: 18 * 6 });
}

#[test]
fn each_mistake_is_found() {
    for (mistake, words) in [
        (Mistake::CommitsBeforeThePayload, "committed and damaged"),
        (Mistake::ForgetsTheFenceBetween, "committed and damaged"),
        (Mistake::FlushesOneLineOfTwo, "committed and damaged"),
        (Mistake::PromisesBeforeTheFence, "promised and is lost"),
        (Mistake::CommitsInTwoWords, "torn"),
    ] {
        let error = sweep(mistake).expect_err(&format!("{mistake:?} is not found"));
        assert!(error.contains(words) && error.contains(Crash::VARIABLE), "{mistake:?}: {error}");
        eprintln!("{mistake:?}: {error}");
    }
}

/// The crash that a finding names leads to it again.
#[test]
fn a_finding_repeats() {
    let first = sweep(Mistake::ForgetsTheFenceBetween).expect_err("a finding");
    assert_eq!(sweep(Mistake::ForgetsTheFenceBetween).expect_err("the same"), first);
}

/// Negative control of the sweep: a program that fails by itself is no crash.
#[test]
fn a_program_that_fails_is_told_from_one_that_crashes() {
    let error = at_every_point(&[0], || Command::new("false"), |_| Ok(())).expect_err("a failure");
    assert!(error.contains("failed by itself"), "{error}");
}
