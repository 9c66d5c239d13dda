//! A program for a guest: found here, gathered with what it needs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tiermem_qemu::program::{Luggage, Packing, find};
use tiermem_qemu::wire::Request;

use super::failure;
use crate::exit::{Exit, Failure};

/// What goes along.
#[derive(Debug, clap::Args)]
pub struct Goods {
    /// Copy this file or folder into the guest as well, at the same path.
    #[arg(long, value_name = "PATH")]
    copy: Vec<PathBuf>,
    /// Set a variable for the program.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Take the program's debug data along: backtraces then have lines, and the guest less memory.
    #[arg(long)]
    debug_data: bool,
}

/// A program and its files.
#[derive(Debug)]
pub struct Program {
    pub packing: Packing,
    pub request: Request,
}

impl Goods {
    /// Gathers what `command` needs. `environment` is what it gets of this process's variables, before `--env`.
    ///
    /// # Errors
    /// What cannot be executed or found, and libraries that are missing.
    pub fn gather(
        &self,
        command: &[OsString],
        environment: BTreeMap<String, String>,
        more: impl FnOnce(&mut Luggage) -> Result<(), tiermem_qemu::Error>,
    ) -> Result<Program, Failure> {
        let mut luggage = Luggage::new(std::env::var("LD_LIBRARY_PATH").ok().as_deref());
        if self.debug_data {
            luggage = luggage.whole();
        }
        let mut command = command.iter().map(text).collect::<Result<Vec<String>, Failure>>()?;
        if let Some(name) = command.first_mut() {
            *name = add(&mut luggage, name)?;
        }
        for path in &self.copy {
            let place = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            luggage.copy(path, &place).map_err(|e| failure(&e))?;
        }
        more(&mut luggage).map_err(|e| failure(&e))?;
        luggage.complete().map_err(|e| failure(&e))?;
        let mut environment = environment;
        environment.extend(luggage.library_path().map(|path| ("LD_LIBRARY_PATH".to_owned(), path)));
        for variable in &self.env {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| Failure::new(Exit::Usage, format!("--env {variable}: write it NAME=VALUE")))?;
            environment.insert(name.into(), value.into());
        }
        let request = Request { command, environment, directory: String::new(), terminal: None };
        Ok(Program { packing: luggage.packing(), request })
    }
}

fn text(word: &OsString) -> Result<String, Failure> {
    word.clone().into_string().map_err(|word| {
        let why = format!("`{}` is not UTF-8, and nothing else can be said to a guest", word.display());
        Failure::new(Exit::BadInput, why)
    })
}

/// Adds the program of this name; what the guest is to start.
fn add(luggage: &mut Luggage, name: &str) -> Result<String, Failure> {
    let path = Path::new(name);
    match find(name.as_ref(), std::env::var_os("PATH").as_deref()) {
        Some(found) => {
            let program = std::path::absolute(&found).unwrap_or(found);
            luggage.program(&program).map_err(|e| failure(&e))?;
            Ok(program.to_string_lossy().into_owned())
        }
        // Perhaps busybox has it; the guest will tell.
        None if !name.contains('/') => Ok(name.to_owned()),
        None if !path.exists() => Err(Failure::new(Exit::Command(127), format!("{name}: no such file"))),
        // Says why it cannot be executed.
        None => luggage.program(path).map_err(|e| failure(&e)).map(|()| name.to_owned()),
    }
}
