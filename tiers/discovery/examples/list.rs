//! Prints what this machine offers, as JSON.

fn main() -> Result<(), serde_json::Error> {
    let report = tiermem_discovery::machine(&tiermem_discovery::Roots::host());
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
