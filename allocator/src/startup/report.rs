//! Statistics at exit, for users who set a variable and want to see figures.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use tiermem_sys::process;
use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

use super::STATS_VARIABLE;
use super::configure::{Outcome, variable};
use crate::introspect::{Form, render};

/// What was asked for.
struct Report {
    form: Form,
    /// Appended to; standard error if there is none.
    file: Option<PathBuf>,
}

/// Set once, never freed; null for no report.
static REPORT: AtomicPtr<Report> = AtomicPtr::new(std::ptr::null_mut());

/// Reads what the environment asks for, before the program can change it.
pub fn prepare(outcome: &mut Outcome) {
    let Some(value) = variable(STATS_VARIABLE) else { return };
    let report = match value.as_str() {
        "0" => return,
        "1" => Report { form: Form::Text, file: None },
        "json" => Report { form: Form::Json, file: None },
        name if name.contains(['/', '.']) => {
            let form = if name.ends_with(".json") { Form::Json } else { Form::Text };
            Report { form, file: Some(name.into()) }
        }
        other => {
            let what = format_args!(
                "{STATS_VARIABLE}: `{other}` is none of 0, 1, json, or a file with `/` or `.` in its name"
            );
            return outcome.complain(what);
        }
    };
    // Release pairs with the Acquire in `at_exit`.
    REPORT.store(Box::into_raw(Box::new(report)), Ordering::Release);
}

/// Prints what was asked for. May allocate.
pub fn at_exit() {
    // Acquire pairs with the Release in `prepare`.
    // SAFETY: null or a report that is never freed.
    let Some(report) = (unsafe { REPORT.load(Ordering::Acquire).as_ref() }) else { return };
    let Some(path) = &report.file else { return render(report.form, &mut process::say) };
    // Written at once, so that the reports of processes that end at the same time do not mix.
    let mut text = Vec::new();
    render(report.form, &mut |piece| text.extend_from_slice(piece));
    let written = File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(&text));
    if let Err(error) = written {
        eprintln!("tiermem: {STATS_VARIABLE}: {}: {error}", path.display());
    }
}
