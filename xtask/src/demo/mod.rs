//! `cargo xtask demo`: the main job on a real program.
//!
//! An unmodified redis-server runs with DRAM limited so that most of its data lives on an emulated CXL tier. It is
//! filled, saves itself in the background while it is written to, and every value is checked afterwards: those in the
//! server, and those in the save, which must be the values of the moment of the fork. Where the memory was is told
//! twice: by tierctl, and by the kernel.

mod kernel;
mod load;
mod picture;
mod resp;
mod server;
mod tier_file;
mod values;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::failure::{Context, Failure, Result};
use crate::workspace::Workspace;
use crate::{build, packages};
use kernel::Residence;
use load::Verdict;
use resp::Reply;
use server::{Config, Server};
use tier_file::TierFile;

/// What DRAM may hold of the server's data.
const DRAM_LIMIT: &str = "64M";
/// Size of the emulated CXL tier.
const TIER_SIZE: &str = "2G";
/// The same in bytes, with some to spare.
const TIER_ROOM: u64 = (2 << 30) + (256 << 20);
/// Of so many keys, one is rewritten during the background save.
const REWRITTEN_OF: u64 = 8;
/// Keys rewritten between two looks at whether the save is still going on.
const REWRITE_BATCH: usize = 512;
/// At least this share of the data must be on the slow tier.
const SLOW_SHARE_MIN: f64 = 0.5;

/// Options of `cargo xtask demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the server running until Enter is pressed, so that it can be looked at with tierctl.
    #[arg(long)]
    keep: bool,
    /// Port of the server; any free one if not given.
    #[arg(long)]
    port: Option<u16>,
    /// How many values to store, 1.5 kB each on average.
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(REWRITTEN_OF..=10_000_000))]
    keys: u64,
}

/// Runs the demo; whether all values were right and most of the data was on the slow tier.
pub fn run(workspace: &Workspace, options: &Demo) -> Result<bool> {
    packages::ensure(packages::DEMO)?;
    build::release(workspace)?;
    let folder = workspace.target("demo");
    // What an earlier demo left.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).while_doing(folder.display())?;
    let port = server::free_port(options.port)?;
    let tier = TierFile::choose(workspace, &folder, &format!("tiermem-demo-{port}"), TIER_ROOM)?;
    let report = folder.join("report.html");

    let mut tiered = workspace.command(workspace.target("release/tierctl"));
    tiered.args(["run", "--tier", &format!("slow=dax-file:{},size={TIER_SIZE}", tier.path().display())]);
    tiered
        .args(["--summary", "--limit", &format!("dram={DRAM_LIMIT}")])
        .arg("--report")
        .arg(&report)
        .args(["--", "redis-server"]);
    println!("\n$ {} redis.conf\n", shown(&tiered));
    let mut server = Server::start(&mut tiered, &Config { folder: &folder, name: "redis", port })?;
    let mut findings = exercise(&mut server, options.keys, tier.path())?;
    if options.keep {
        wait_for_enter(&server, port)?;
    }
    println!("\n---- tierctl's summary ----");
    let ended = server.stop()?;
    println!("---------------------------\n");
    if !ended.success() {
        findings.complaints.push(format!("redis-server under tierctl ended with {ended}"));
    }
    check_save(workspace, &folder, options.keys, &mut findings)?;
    conclude(workspace, &report, &findings)
}

/// What the demo found.
#[derive(Debug, Default)]
struct Findings {
    /// What the kernel says after filling, and at the end.
    residence: Vec<(&'static str, Residence)>,
    /// What is wrong.
    complaints: Vec<String>,
}

impl Findings {
    fn look(&mut self, when: &'static str, server: &Server, tier: &Path) -> Result<()> {
        let residence = Residence::of(server.pid(), tier)?;
        if residence.slow_share() < SLOW_SHARE_MIN {
            let share = 100.0 * residence.slow_share();
            self.complaints.push(format!("{when}, only {share:.0} % of the data was on the slow tier"));
        }
        self.residence.push((when, residence));
        Ok(())
    }

    fn judge(&mut self, what: &str, verdict: Verdict) {
        println!("{what}: {} values right, {} wrong", verdict.right, verdict.wrong);
        if verdict.wrong > 0 {
            let examples = verdict.examples.join("\n    ");
            self.complaints.push(format!("{what}: {} values wrong, such as\n    {examples}", verdict.wrong));
        }
    }
}

/// Fills the server, lets it save itself while it is written to, and checks every value.
fn exercise(server: &mut Server, keys: u64, tier: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut client = server.connect()?;
    let start = Instant::now();
    let bytes = load::set(&mut client, 0..keys, 0)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("filled: {keys} values, {} in {seconds:.1} s", mib(bytes));
    findings.look("after filling", server, tier)?;

    let start = Instant::now();
    let answer = client.ask(&["BGSAVE"]).while_doing("BGSAVE")?;
    let fork_us = server.info("stats", "latest_fork_usec")?;
    println!("BGSAVE: {answer}; the fork took {fork_us} µs");
    let mut meanwhile = 0;
    let rewritten: Vec<u64> = (0..keys).filter(|&key| rewrites(key) > 0).collect();
    for batch in rewritten.chunks(REWRITE_BATCH) {
        load::set(&mut client, batch.iter().copied(), 1)?;
        if server.info("persistence", "rdb_bgsave_in_progress")? == "1" {
            meanwhile += batch.len();
        }
    }
    server.wait_for_save()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("rewritten: {} values, {meanwhile} of them while the save was written ({seconds:.1} s)", rewritten.len());

    // The server asks the allocator that it was linked with about itself; that one now holds nothing, and must bear it.
    for question in [["MEMORY", "PURGE"], ["MEMORY", "MALLOC-STATS"]] {
        if let Reply::Error(error) = client.ask(&question).while_doing("MEMORY")? {
            findings.complaints.push(format!("{}: {error}", question.join(" ")));
        }
    }
    let count = client.ask(&["DBSIZE"]).while_doing("DBSIZE")?.to_string();
    if count != keys.to_string() {
        findings.complaints.push(format!("DBSIZE is {count}, not {keys}"));
    }
    findings.judge("in the server", load::verify(&mut client, 0..keys, rewrites)?);
    findings.look("at the end", server, tier)?;
    println!("redis-server itself: {}", memory_in_words(server)?);
    Ok(findings)
}

/// How often a key is written anew after the start of the background save.
fn rewrites(key: u64) -> u64 {
    u64::from(key % REWRITTEN_OF == 3)
}

fn memory_in_words(server: &Server) -> Result<String> {
    let human = |key| server.info("memory", key);
    let (used, rss) = (human("used_memory_human")?, human("used_memory_rss_human")?);
    Ok(format!("used_memory {used}, used_memory_rss {rss} (its mem_allocator names what it was linked with)"))
}

/// Loads the save into a server without tiermem. It must hold what was there when the save began, and nothing later.
fn check_save(workspace: &Workspace, folder: &Path, keys: u64, findings: &mut Findings) -> Result<()> {
    let port = server::free_port(None)?;
    let mut plain = workspace.command("redis-server");
    let server = Server::start(&mut plain, &Config { folder, name: "plain", port })?;
    let verdict = load::verify(&mut server.connect()?, 0..keys, |_| 0)?;
    findings.judge("in the background save, read by a plain redis-server", verdict);
    server.stop()?;
    // As large as all values together, and of no further use.
    let save = folder.join("demo.rdb");
    fs::remove_file(&save).while_doing(save.display())
}

fn wait_for_enter(server: &Server, port: u16) -> Result<()> {
    let pid = server.pid();
    println!("\nredis-server runs as process {pid} on port {port}. Look at it with\n  tierctl stat {pid} --watch");
    println!("Enter ends the demo.");
    std::io::stdin().read_line(&mut String::new()).while_doing("waiting for Enter")?;
    Ok(())
}

/// Prints where the memory was and where the report is; whether all is well.
fn conclude(workspace: &Workspace, report: &Path, findings: &Findings) -> Result<bool> {
    println!("\nWhere the data was, as the kernel counts it (/proc/PID/smaps):");
    for (when, residence) in &findings.residence {
        let Residence { slow, dram, files } = *residence;
        let share = 100.0 * residence.slow_share();
        println!("  {when:<14} slow tier {} ({share:.0} %), DRAM {}, programs {}", mib(slow), mib(dram), mib(files));
    }
    if !report.is_file() {
        return Err(Failure::new(format!("tierctl wrote no report to {}", report.display())));
    }
    println!("\nreport:  {}", report.display());
    let picture = report.with_extension("png");
    match picture::take(workspace, report, &picture) {
        Ok(()) => println!("picture: {}", picture.display()),
        Err(why) => println!("picture: SKIP, {why}"),
    }
    for complaint in &findings.complaints {
        println!("\nWRONG: {complaint}");
    }
    println!("\ndemo: {}", if findings.complaints.is_empty() { "all is well" } else { "FAILED" });
    Ok(findings.complaints.is_empty())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains([' ', '\'', '$']) { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
