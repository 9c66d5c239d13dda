//! A picture of the report, made by a browser without a window.

use std::path::Path;

use crate::step::captured;
use crate::workspace::Workspace;

/// Browsers that take pictures, by the names under which Debian and others install them.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Wide enough for the report's charts side by side, high enough for most of it.
const WINDOW: &str = "--window-size=1280,2000";

/// Draws `page` into `picture`; says why not where that is impossible.
pub fn take(workspace: &Workspace, page: &Path, picture: &Path) -> Result<(), String> {
    let scratch = page.with_extension("browser");
    let taken = try_browsers(workspace, page, picture, &scratch);
    // The browser's own files; there are none if it did not start.
    let _ = std::fs::remove_dir_all(&scratch);
    taken
}

fn try_browsers(workspace: &Workspace, page: &Path, picture: &Path, scratch: &Path) -> Result<(), String> {
    let profile = format!("--user-data-dir={}", scratch.display());
    let mut why_not = "there is no chromium here".to_owned();
    for browser in BROWSERS {
        let mut command = workspace.command(browser);
        command.args(["--headless", "--disable-gpu", "--hide-scrollbars", "--no-sandbox", WINDOW, &profile]);
        command.arg(format!("--screenshot={}", picture.display())).arg(format!("file://{}", page.display()));
        let (done, output) = captured(&mut command);
        if done && picture.exists() {
            return Ok(());
        }
        if !output.contains("could not be started") {
            why_not = output;
        }
    }
    Err(why_not)
}
