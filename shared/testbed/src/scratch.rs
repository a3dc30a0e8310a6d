//! A temporary folder that outlives nobody.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::supervisor::{Plan, Supervisor};
use crate::{Place, blocking};

/// A fresh folder; it goes when this is dropped, or when this process dies in whatever way.
#[derive(Debug)]
pub struct Scratch {
    supervisor: Supervisor,
}

impl Scratch {
    /// Makes the folder; the name is part of its own.
    pub async fn new(name: &str) -> Result<Self> {
        let plan = Plan {
            name: name.to_owned(),
            command: Vec::new(),
            environment: Vec::new(),
            log: PathBuf::new(),
            append: true,
            prepare: String::new(),
            folder: Place::temporary().folder(name, None)?,
            keep: false,
            user: None,
            last_signal: "KILL",
            ready_line: "",
        };
        Ok(Self {
            supervisor: blocking(|| Supervisor::open(plan)).await?,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.supervisor.folder()
    }
}
