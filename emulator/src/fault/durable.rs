//! A file behind caches that a crash loses: persistent memory as the program sees it, and what is left of it afterwards.
//!
//! What is stored lies in lines that only this process has. [`flush`](Durable::flush) starts to write lines back,
//! [`fence`](Durable::fence) waits until they are in the file. Between a store and the fence a line *may* reach the file, because
//! a cache may write a line back whenever it likes; a crash therefore decides, by its seed, for each such line whether it
//! has, and may tear one: of a torn line only some of the 8-byte words have arrived. (This is the persistence model of the
//! x86 instructions CLWB and SFENCE, after Raad, Wickerson, Neiger and Vafeiadis, "Persistency semantics of the Intel-x86
//! architecture", POPL 2020.)
//!
//! A crash is the end of the real process by `SIGKILL`: no destructor runs, and the file holds what had arrived.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use tiermem_sys::process;

use crate::cache::LINE;
use crate::random::Random;

/// Bytes that are never torn.
pub const WORD: usize = 8;

const LEN: usize = LINE as usize;

/// Where a host crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// At this persist point, counted from 1, before it is carried out.
    pub point: u64,
    /// Decides which lines that were on their way have arrived.
    pub seed: u64,
    /// One of those has arrived in part.
    pub torn: bool,
}

impl Crash {
    /// Where [`at_every_point`](super::at_every_point) tells its program to crash: `POINT:SEED:TORN`.
    pub const VARIABLE: &str = "TIERMEM_CRASH";

    /// What the environment asks for.
    ///
    /// # Errors
    /// If what stands there is no crash.
    pub fn from_environment() -> Result<Option<Self>, String> {
        match std::env::var(Self::VARIABLE) {
            Ok(text) => text.parse().map(Some),
            Err(_) => Ok(None),
        }
    }
}

impl std::fmt::Display for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.point, self.seed, self.torn)
    }
}

impl FromStr for Crash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let mut next = || parts.next().unwrap_or_default();
        let (point, seed, torn) = (next().parse(), next().parse(), next().parse());
        match (point, seed, torn) {
            (Ok(point), Ok(seed), Ok(torn)) => Ok(Self { point, seed, torn }),
            _ => Err(format!("`{text}` is not POINT:SEED:TORN, as in 3:1:false")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Changed, and not on its way.
    Dirty,
    /// Flushed, and not known to have arrived.
    Flushed,
}

/// See the module.
#[derive(Debug)]
pub struct Durable {
    file: File,
    len: u64,
    lines: BTreeMap<u64, (Phase, [u8; LEN])>,
    points: u64,
    crash: Option<Crash>,
}

impl Durable {
    /// Opens a file of `len` bytes, made if it is missing, in a process that is to crash as `crash` says.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` if `len` is no whole number of lines, `UnexpectedEof` if the file is shorter.
    pub fn open(path: &Path, len: u64, crash: Option<Crash>) -> io::Result<Self> {
        if !len.is_multiple_of(LINE) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the length must be whole lines of 64 bytes"));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.metadata()?.len() {
            0 => file.set_len(len)?,
            there if there < len => {
                let what = format!("{} holds {there} bytes, {len} are needed", path.display());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            _ => {}
        }
        Ok(Self { file, len, lines: BTreeMap::new(), points: 0, crash })
    }

    /// Persist points so far: each store, each flush and each fence is one.
    pub const fn points(&self) -> u64 {
        self.points
    }

    /// Stores bytes; they are in this process's caches then.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` outside the file.
    pub fn store(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        self.point()?;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (start, skip) = (at / LINE * LINE, (at % LINE) as usize);
            let part = (bytes.len() - done).min(LEN - skip);
            let mut line = self.line(start)?;
            line[skip..skip + part].copy_from_slice(&bytes[done..done + part]);
            self.lines.insert(start, (Phase::Dirty, line));
            done += part;
        }
        Ok(())
    }

    /// Loads bytes: what was stored last, persistent or not.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` outside the file.
    pub fn load(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.check(offset, into.len())?;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let (start, skip) = (at / LINE * LINE, (at % LINE) as usize);
            let part = (into.len() - done).min(LEN - skip);
            into[done..done + part].copy_from_slice(&self.line(start)?[skip..skip + part]);
            done += part;
        }
        Ok(())
    }

    /// Starts to write the lines of a range back.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` outside the file.
    pub fn flush(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.check(offset, len)?;
        self.point()?;
        let lines = offset / LINE * LINE..offset + len as u64;
        self.lines.range_mut(lines).for_each(|(_, (phase, _))| *phase = Phase::Flushed);
        Ok(())
    }

    /// Waits until what was flushed is in the file.
    ///
    /// # Errors
    /// As the system says.
    pub fn fence(&mut self) -> io::Result<()> {
        self.point()?;
        let file = &self.file;
        let mut outcome = Ok(());
        self.lines.retain(|&start, (phase, line)| {
            if *phase == Phase::Flushed && outcome.is_ok() {
                outcome = file.write_all_at(line, start);
                return outcome.is_err();
            }
            true
        });
        outcome
    }

    fn line(&self, start: u64) -> io::Result<[u8; LEN]> {
        match self.lines.get(&start) {
            Some(&(_, line)) => Ok(line),
            None => {
                let mut line = [0; LEN];
                self.file.read_exact_at(&mut line, start)?;
                Ok(line)
            }
        }
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the range lies outside the file")),
        }
    }

    /// Counts a point, and crashes if this is the one.
    fn point(&mut self) -> io::Result<()> {
        self.points += 1;
        match self.crash {
            Some(crash) if crash.point == self.points => {
                self.lose(crash)?;
                process::kill_now(process::id())?;
                // SIGKILL is on its way; this thread gets no further.
                loop {
                    std::thread::park();
                }
            }
            _ => Ok(()),
        }
    }

    /// Lets those lines arrive that the crash's seed says.
    fn lose(&self, crash: Crash) -> io::Result<()> {
        let mut random = Random::new(crash.seed ^ crash.point << 32);
        let mut arrived: Vec<(u64, [u8; LEN])> = Vec::new();
        for (&start, &(_, line)) in &self.lines {
            // The low half of seeds' first draws: seed 0 loses everything, the strictest case for what was not fenced.
            if crash.seed != 0 && random.next() & 1 == 1 {
                arrived.push((start, line));
            }
        }
        if crash.torn {
            let torn = match arrived.last_mut() {
                Some(torn) => Some(torn),
                // A torn line has arrived in part: where none has arrived, take one.
                None => self.lines.iter().next().map(|(&start, &(_, line))| {
                    arrived.push((start, line));
                    let last = arrived.len() - 1;
                    &mut arrived[last]
                }),
            };
            if let Some((start, line)) = torn {
                let mut old = [0; LEN];
                self.file.read_exact_at(&mut old, *start)?;
                tear(line, &old, random.next());
            }
        }
        arrived.iter().try_for_each(|(start, line)| self.file.write_all_at(line, *start))
    }
}

/// Puts old words in place of some new ones.
fn tear(line: &mut [u8; LEN], old: &[u8; LEN], words: u64) {
    for (i, word) in line.chunks_exact_mut(WORD).enumerate() {
        if words >> i & 1 == 0 {
            word.copy_from_slice(&old[i * WORD..][..WORD]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable(path: &Path) -> Durable {
        Durable::open(path, 1024, None).unwrap()
    }

    fn in_file(path: &Path, offset: usize, len: usize) -> Vec<u8> {
        std::fs::read(path).unwrap()[offset..offset + len].to_vec()
    }

    #[test]
    fn only_what_was_flushed_and_fenced_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmem");
        let mut memory = durable(&path);
        memory.store(60, b"across a line").unwrap();
        let mut back = [0; 13];
        memory.load(60, &mut back).unwrap();
        assert_eq!(&back, b"across a line");
        memory.flush(60, 4).unwrap();
        assert_eq!(in_file(&path, 60, 13), [0; 13], "flushed is not persistent");
        memory.fence().unwrap();
        assert_eq!(in_file(&path, 60, 4), b"acro");
        assert_eq!(in_file(&path, 64, 9), [0; 9], "the second line was not flushed");
        memory.fence().unwrap();
        assert_eq!(in_file(&path, 64, 9), [0; 9], "a fence alone writes nothing back");
        memory.load(60, &mut back).unwrap();
        assert_eq!(&back, b"across a line");
        assert_eq!(memory.points(), 4);
    }

    #[test]
    fn what_is_stored_after_the_flush_needs_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmem");
        let mut memory = durable(&path);
        memory.store(0, b"old").unwrap();
        memory.flush(0, 3).unwrap();
        memory.store(0, b"new").unwrap();
        memory.fence().unwrap();
        assert_eq!(in_file(&path, 0, 3), [0; 3]);
    }

    #[test]
    fn a_torn_line_has_whole_words_of_either_content() {
        let (mut line, old) = ([9; LEN], [1; LEN]);
        tear(&mut line, &old, 0b0100_0001);
        let words: Vec<u8> = line.chunks(WORD).map(|word| word[0]).collect();
        assert_eq!(words, [9, 1, 1, 1, 1, 1, 9, 1]);
        assert!(line.chunks(WORD).all(|word| word.iter().all(|&byte| byte == word[0])));
    }

    #[test]
    fn seeds_decide_what_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmem");
        let mut arrived = std::collections::BTreeSet::new();
        for seed in 0..40 {
            std::fs::write(&path, [0; 1024]).unwrap();
            let mut memory = durable(&path);
            for line in 0..4 {
                memory.store(line * LINE, &[1; LEN]).unwrap();
            }
            memory.lose(Crash { point: 9, seed, torn: false }).unwrap();
            let which: Vec<u8> = std::fs::read(&path).unwrap().chunks(LEN).take(4).map(|line| line[0]).collect();
            if seed == 0 {
                assert_eq!(which, [0; 4]);
            }
            arrived.insert(which);
        }
        assert_eq!(arrived.len(), 16, "every subset of four lines is met");
    }

    #[test]
    fn bad_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmem");
        assert_eq!(Durable::open(&path, 100, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let mut memory = durable(&path);
        assert_eq!(memory.store(1020, &[0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(memory.flush(u64::MAX, 8).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Durable::open(&path, 2048, None).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!("3:1".parse::<Crash>().is_err());
        assert_eq!("3:1:true".parse(), Ok(Crash { point: 3, seed: 1, torn: true }));
    }
}
