//! This repository, and cargo in it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// The folder of the workspace: the one that `cargo run` runs this in, or else the one that it was built in.
pub(crate) fn root() -> Result<PathBuf> {
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = told.filter(|package| package.ends_with("xtask") && package.join("newcomer").is_dir());
    let package = own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = package.parent().context("the workspace has no folder")?;
    Ok(root.to_owned())
}

/// The cargo that runs this, to be run in the workspace.
///
/// Without what `cargo run` tells a program about its package: build scripts watch these variables, and would compile
/// half of the dependencies again each time that they come or go.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            cargo.env_remove(&name);
        }
    }
    Ok(cargo)
}
