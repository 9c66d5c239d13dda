//! `conformance SPEC…`: runs the provider suite on tiers, one line a check. Buildable as one static binary
//! (`-C target-feature=+crt-static`).

use std::process::ExitCode;

use clap::Parser;
use tiermem_tests::conformance::{self, Outcome};
use tiermem_tiers::{Provider, TierId, TierKind, TierSpec, provider};

/// Run the provider suite on tiers: each check of a provider's contract, one line each.
///
/// Exit codes: 0 if all passed, 1 if a check failed, 2 if a tier could not be opened or the call is wrong.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Call {
    /// A tier, for example slow=dax-file:/dev/shm/slow,size=64M. A file that the suite makes is removed again.
    #[arg(value_name = "SPEC", required = true)]
    specs: Vec<String>,
}

fn main() -> ExitCode {
    let call = Call::parse();
    let worst = call.specs.iter().map(|text| match run(text) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            println!("not ok {text}: {error}");
            2
        }
    });
    ExitCode::from(worst.max().unwrap_or(0))
}

fn run(text: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let spec: TierSpec = text.parse()?;
    let mut failures = 0;
    let mut report = |name: &str, outcome: Outcome| match outcome {
        Ok(None) => println!("ok {text} {name}"),
        Ok(Some(why)) => println!("ok {text} {name} # SKIP {why}"),
        Err(why) => {
            failures += 1;
            println!("not ok {text} {name}: {why}");
        }
    };
    let tier = provider::open(&spec, TierId(0))?;
    if let Some(notice) = tier.notice() {
        println!("# {text}: {notice}");
    }
    conformance::run(tier.as_ref(), &mut report);
    drop(tier);
    let named = spec.location != "memfd" && !std::path::Path::new(&spec.location).is_dir();
    if named && matches!(spec.kind, TierKind::DaxFile | TierKind::Devdax | TierKind::Nvme) {
        let again = || -> Box<dyn Provider> {
            provider::open(&spec, TierId(0)).unwrap_or_else(|error| panic!("opening it again: {error}"))
        };
        conformance::run_shared(&again, &mut report);
        provider::destroy(&spec)?;
    }
    Ok(failures == 0)
}
