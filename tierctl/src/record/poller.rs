//! Reads the control segments of a run's processes while it lasts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tiermem::control::Snapshot;

use super::kernel::{Counter, TierFile};
use super::timeline::{Moment, Timeline};
use super::{ProcessRecord, Recorded, Sampling};
use crate::segments::{Attach, Reader, SegmentFile, in_dir, is_running};

/// Time between the first readings, so that a program that lives for a blink leaves a trace too.
const INTERVAL_FIRST: Duration = Duration::from_millis(10);
/// Time between readings soon after.
const INTERVAL_SHORT: Duration = Duration::from_millis(50);
/// Time between readings of a long run.
const INTERVAL_LONG: Duration = Duration::from_millis(200);
/// Sites and modules are kept of at most this many ended processes (a build may have tens of thousands).
const DETAILED_MAX: usize = 256;

struct Open {
    read: Reader,
    inode: u64,
    kernel: Counter,
    record: ProcessRecord,
}

/// Reads all segments in a folder, again and again, and keeps the last figures of processes that end.
pub struct Poller {
    dir: PathBuf,
    attach: Attach,
    files: Vec<TierFile>,
    began: Instant,
    interval: Duration,
    last_round: Option<Instant>,
    open: BTreeMap<u32, Open>,
    done: Vec<ProcessRecord>,
    timeline: Timeline,
    sampling: Sampling,
}

impl Poller {
    /// For the segments in `dir` of a run that begins now; `files` are those that tiers lie in.
    pub fn new(dir: PathBuf, attach: Attach, files: Vec<TierFile>) -> Self {
        Self {
            dir,
            attach,
            files,
            began: Instant::now(),
            interval: INTERVAL_FIRST,
            last_round: None,
            open: BTreeMap::new(),
            done: Vec::new(),
            timeline: Timeline::new(),
            sampling: Sampling::default(),
        }
    }

    /// When the run began.
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// Takes a round of readings if one is due; says how long to wait until the next.
    pub fn tick(&mut self) -> Duration {
        let since = self.last_round.map(|last| last.elapsed());
        if let Some(left) = since.and_then(|since| self.interval.checked_sub(since)).filter(|left| !left.is_zero()) {
            return left;
        }
        self.round();
        let factor = if self.interval < INTERVAL_SHORT { 1.2 } else { 1.02 };
        self.interval = self.interval.mul_f64(factor).min(INTERVAL_LONG);
        self.interval
    }

    fn round(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_round.replace(now) {
            let gap = u64::try_from((now - last).as_millis()).unwrap_or(u64::MAX);
            self.sampling.interval_ms_max = self.sampling.interval_ms_max.max(gap);
        }
        self.sampling.rounds += 1;
        self.attach_new();
        let pids: Vec<u32> = self.open.keys().copied().collect();
        for pid in pids {
            self.read(pid);
        }
        let moment = self.moment();
        if moment.processes > 0 || !self.done.is_empty() {
            self.timeline.push(moment);
        }
        self.retire_ended();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Opens segments that are new, and those that a program made anew when it replaced another in the same process.
    fn attach_new(&mut self) {
        for SegmentFile { pid, path } in in_dir(&self.dir) {
            let Ok(inode) = fs::metadata(&path).map(|m| m.ino()) else { continue };
            if self.open.get(&pid).is_some_and(|open| open.inode == inode) {
                continue;
            }
            let Ok(read) = (self.attach)(&path) else {
                self.sampling.failures += 1;
                continue;
            };
            let fresh = Open { read, inode, kernel: Counter::new(), record: ProcessRecord::default() };
            if let Some(before) = self.open.insert(pid, fresh) {
                self.keep(ProcessRecord { ended: true, ..before.record });
            }
        }
    }

    fn read(&mut self, pid: u32) {
        let now_ms = self.now_ms();
        let Some(open) = self.open.get_mut(&pid) else { return };
        // Asked before reading: if the process had ended by then, these figures are its last.
        let ended = !is_running(pid);
        let Ok(snapshot) = (open.read)() else {
            self.sampling.failures += 1;
            open.record.ended |= ended;
            return;
        };
        let ended = ended || snapshot.ended;
        let is_first = open.record.snapshot.pid == 0;
        let is_other = !is_first && snapshot.uptime_ms < open.record.snapshot.uptime_ms;
        let started_ms = if is_first || is_other {
            i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(snapshot.uptime_ms)
        } else {
            open.record.started_ms
        };
        let first_read_ms = if is_first || is_other { now_ms } else { open.record.first_read_ms };
        if is_other {
            open.kernel = Counter::new();
        }
        if !ended {
            open.kernel.tick(pid, &self.files, now_ms);
        }
        let kernel = open.kernel.counts.clone();
        let fresh = ProcessRecord { snapshot, started_ms, first_read_ms, last_read_ms: now_ms, ended, kernel };
        let before = std::mem::replace(&mut open.record, fresh);
        if is_other {
            self.keep(ProcessRecord { ended: true, ..before });
        }
    }

    fn moment(&mut self) -> Moment {
        let mut moment = Moment { at_ms: self.now_ms(), ..Moment::default() };
        for open in self.open.values().filter(|open| !open.record.ended && open.record.snapshot.pid != 0) {
            moment.processes += 1;
            moment.rss += open.record.snapshot.rss;
            for tier in &open.record.snapshot.tiers {
                let index = self.timeline.tier(&tier.name);
                for (sum, part) in [(&mut moment.live, tier.live), (&mut moment.committed, tier.committed)] {
                    sum.resize(sum.len().max(index + 1), 0);
                    sum[index] += part;
                }
            }
        }
        moment
    }

    fn retire_ended(&mut self) {
        let ended: Vec<u32> = self.open.iter().filter(|(_, open)| open.record.ended).map(|(&pid, _)| pid).collect();
        for pid in ended {
            // A process that says that it ends may go on for a moment and still be read; its file goes when it is gone.
            if is_running(pid) {
                continue;
            }
            if let Some(open) = self.open.remove(&pid) {
                drop(fs::remove_file(self.dir.join(pid.to_string())));
                self.keep(open.record);
            }
        }
    }

    fn keep(&mut self, mut record: ProcessRecord) {
        if record.snapshot.pid == 0 {
            return;
        }
        if self.done.len() >= DETAILED_MAX {
            self.sampling.sites_dropped += u64::from(!record.snapshot.sites.is_empty());
            record.snapshot = Snapshot { sites: Vec::new(), modules: Vec::new(), ..record.snapshot };
        }
        self.done.push(record);
    }

    /// Takes a last round of readings and gives all that was recorded. Processes that still run keep their segments.
    pub fn finish(mut self) -> Recorded {
        self.round();
        for (_, open) in std::mem::take(&mut self.open) {
            self.keep(open.record);
        }
        self.timeline.finish();
        self.done.sort_by_key(|p| (p.started_ms, p.snapshot.pid));
        Recorded { processes: self.done, timeline: self.timeline, sampling: self.sampling }
    }
}

#[cfg(test)]
mod tests {
    use super::Poller;
    use crate::exit::{Exit, Failure};
    use crate::segments::Reader;
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command};
    use tiermem::control::{Snapshot, TierUse};

    /// A stand-in for the real attachment: the file holds `UPTIME LIVE`.
    fn attach(path: &Path) -> Result<Reader, Failure> {
        let path = path.to_path_buf();
        let pid = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Ok(Box::new(move || {
            let text = fs::read_to_string(&path).map_err(|e| Failure::from_io("segment", &e))?;
            let mut numbers = text.split_whitespace().map(|n| n.parse::<u64>());
            let (Some(Ok(uptime_ms)), Some(Ok(live))) = (numbers.next(), numbers.next()) else {
                return Err(Failure::new(Exit::Failed, "not ready"));
            };
            let dram = TierUse { name: "dram".into(), live, committed: live * 2, ..TierUse::default() };
            Ok(Snapshot { pid, uptime_ms, rss: live * 3, tiers: vec![dram], ..Snapshot::default() })
        }))
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn sums_processes_takes_last_figures_and_removes_segments_of_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (sleeper(), sleeper());
        let file = |child: &Child| dir.path().join(child.id().to_string());
        let (file_a, file_b) = (file(&a), file(&b));
        fs::write(&file_a, "1 100").unwrap();
        fs::write(&file_b, "not ready").unwrap();
        let mut poller = Poller::new(dir.path().to_path_buf(), attach, Vec::new());
        poller.round();
        fs::write(&file_b, "5 30").unwrap();
        poller.round();
        fs::write(&file_a, "20 70").unwrap();
        end(a);
        poller.round();
        assert!(!file_a.exists() && file_b.exists());
        let recorded = poller.finish();
        assert!(file_b.exists(), "a running process keeps its segment");
        let sums: Vec<u64> = recorded.timeline.moments.iter().map(|m| m.live[0]).collect();
        assert_eq!(sums, [100, 130, 30, 30]);
        assert_eq!(recorded.timeline.moments[1].committed, [260]);
        assert_eq!(recorded.sampling.failures, 1);
        let last = |pid: u32| recorded.processes.iter().find(|p| p.snapshot.pid == pid).unwrap();
        let a_pid: u32 = file_a.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!((last(a_pid).snapshot.tiers[0].live, last(a_pid).ended), (70, true));
        assert!(!last(b.id()).ended);
        end(b);
    }

    #[test]
    fn a_program_that_replaces_another_is_a_record_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let child = sleeper();
        let file = dir.path().join(child.id().to_string());
        fs::write(&file, "50 100").unwrap();
        let mut poller = Poller::new(dir.path().to_path_buf(), attach, Vec::new());
        poller.round();
        fs::write(&file, "1 7").unwrap();
        poller.round();
        let other = dir.path().join("new");
        fs::write(&other, "9 8").unwrap();
        fs::rename(&other, &file).unwrap();
        poller.round();
        end(child);
        let recorded = poller.finish();
        let lives: Vec<u64> = recorded.processes.iter().map(|p| p.snapshot.tiers[0].live).collect();
        assert_eq!(lives.len(), 3);
        assert!([100, 7, 8].iter().all(|live| lives.contains(live)));
        assert!(!file.exists());
    }
}
