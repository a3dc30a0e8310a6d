//! Prometheus and its promtool, found or installed: what alert rules and dashboards are tested with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{install, tools};

/// The two programs, of one version.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Checks and tests rules.
    pub promtool: PathBuf,
    /// The server.
    pub server: PathBuf,
}

impl Prometheus {
    /// In the folder that `TIDINGS_PROMETHEUS_BIN` names, or on the path, or installed.
    pub fn find_or_install() -> Result<Self> {
        if let Some(named) = std::env::var_os("TIDINGS_PROMETHEUS_BIN") {
            let folder = PathBuf::from(named);
            return Self::within(&folder).with_context(|| format!("there is no promtool in {}", folder.display()));
        }
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        let _one_at_a_time = install::lock()?;
        if Self::find()?.is_none() {
            install::prometheus(&|step| eprintln!("{step}"))?;
        }
        Self::find()?.context("no Prometheus could be had; install one and set TIDINGS_PROMETHEUS_BIN to its folder")
    }

    fn find() -> Result<Option<Self>> {
        let on_path = tools::on_path("promtool");
        let mut folders: Vec<PathBuf> = on_path
            .iter()
            .filter_map(|tool| tool.parent())
            .map(Path::to_owned)
            .collect();
        folders.push(tools::folder()?.join(install::PROMETHEUS_BIN));
        Ok(folders.iter().find_map(|folder| Self::within(folder)))
    }

    fn within(folder: &Path) -> Option<Self> {
        let (promtool, server) = (folder.join("promtool"), folder.join("prometheus"));
        (promtool.is_file() && server.is_file()).then_some(Self { promtool, server })
    }
}
