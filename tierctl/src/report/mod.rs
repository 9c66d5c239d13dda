//! The report.
use crate::record::RunRecord;
/// Renders.
pub fn render(run: &RunRecord) -> String {
    format!("<!doctype html>{}", run.command.join(" "))
}
