//! Runs one workload: `tiermem-workload NAME [name=value …]`. The allocator is whatever is preloaded.
//!
//! Prints one JSON object: what the workload reports, and `peak_rss_bytes`.

use std::process::ExitCode;

use tiermem_benches::workload::{self, Parameters, WORKLOADS};

fn main() -> ExitCode {
    // The default hook allocates (it may resolve a backtrace), which hangs when the heap under test is what failed.
    std::panic::set_hook(Box::new(|failure| {
        eprintln!("tiermem-workload: {failure}");
        std::process::abort();
    }));
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("tier-count") => {
            println!("{}", workload::tier_count());
            return ExitCode::SUCCESS;
        }
        Some("harden-mode") => {
            println!("{}", workload::harden_mode().map_or("unknown".to_owned(), |mode| mode.to_string()));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let Some(workload) = arguments.next().and_then(|name| workload::find(&name)) else {
        eprintln!("usage: tiermem-workload NAME [name=value …]\n");
        WORKLOADS.iter().for_each(|workload| eprintln!("  {:18} {}", workload.name, workload.summary));
        return ExitCode::from(2);
    };
    let parameters = match Parameters::parse(arguments) {
        Ok(parameters) => parameters,
        Err(error) => {
            eprintln!("tiermem-workload: {error}");
            return ExitCode::from(2);
        }
    };
    let mut report = (workload.run)(&parameters);
    // The caller's rusage would count the memory of the process that forked this one, too.
    report["peak_rss_bytes"] = workload::peak_resident_bytes().into();
    println!("{report}");
    ExitCode::SUCCESS
}
