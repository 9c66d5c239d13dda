//! Running a program under the preload: what `tierctl run` stands on.

pub mod child;
pub mod control_dir;
pub mod preload;
pub mod program;
pub mod recording;
pub mod tier_files;
pub mod weights;
