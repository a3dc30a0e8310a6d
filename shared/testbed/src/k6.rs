//! The load generator k6, found or installed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{install, tools};

/// The first whose scripts have `crypto` without an import.
const K6: (u32, u32) = (1, 0);

/// A k6 ≥ 1.0: `TIDINGS_K6` first, then the PATH, then what was installed before; installed when it is nowhere.
///
/// Every step is told to `progress` before it is taken.
pub fn k6(progress: impl Fn(&str)) -> Result<PathBuf> {
    if let Some(found) = find()? {
        return Ok(found);
    }
    let _one_at_a_time = install::lock()?;
    if find()?.is_none() {
        install::k6(&progress)?;
    }
    find()?.context("no k6 1.0 or newer could be had; install one and set TIDINGS_K6 to it")
}

fn find() -> Result<Option<PathBuf>> {
    let is_k6 = |program: &PathBuf| tools::version(program) >= Some(K6);
    if let Some(named) = std::env::var_os("TIDINGS_K6").map(PathBuf::from) {
        if !is_k6(&named) {
            bail!("TIDINGS_K6={} is no k6 1.0 or newer", named.display());
        }
        return Ok(Some(std::path::absolute(named)?));
    }
    let places = [tools::on_path("k6"), vec![tools::folder()?.join("k6")]].concat();
    Ok(places.into_iter().find(is_k6))
}
