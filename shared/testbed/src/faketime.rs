//! Another time for a process: libfaketime, found or installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::install;

const LIBRARY: &str = "libfaketimeMT.so.1";
/// A folder `faketime` is in one of these, or one level deeper, by architecture.
const FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"];

/// The library to be named in `LD_PRELOAD`, after which `FAKETIME=+1h` is what a process believes.
///
/// `TIDINGS_FAKETIME` names it; otherwise it is where packages put it, and installed when it is nowhere.
pub fn faketime() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("TIDINGS_FAKETIME") {
        return Ok(named.into());
    }
    if let Some(found) = find() {
        return Ok(found);
    }
    let _one_at_a_time = install::lock()?;
    if find().is_none() {
        install::faketime(&|step| eprintln!("{step}"))?;
    }
    find().with_context(|| format!("{LIBRARY} is nowhere in {}", FOLDERS.join(", ")))
}

fn find() -> Option<PathBuf> {
    let deeper = |folder: &&str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let shallow = FOLDERS.iter().map(PathBuf::from);
    let folders = shallow.chain(FOLDERS.iter().flat_map(deeper));
    let mut candidates = folders.map(|folder| folder.join("faketime").join(LIBRARY));
    candidates.find(|library| library.exists())
}
