//! Runs one workload: `tiermem-workload NAME [name=value …]`. The allocator is whatever is preloaded.

use std::process::ExitCode;

use tiermem_benches::workload::{self, Parameters, WORKLOADS};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(workload) = arguments.next().and_then(|name| workload::find(&name)) else {
        eprintln!("usage: tiermem-workload NAME [name=value …]\n");
        WORKLOADS.iter().for_each(|workload| eprintln!("  {:18} {}", workload.name, workload.summary));
        return ExitCode::from(2);
    };
    match Parameters::parse(arguments) {
        Ok(parameters) => println!("{}", (workload.run)(&parameters)),
        Err(error) => {
            eprintln!("tiermem-workload: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
