//! A program of ours, under the same care as the servers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::blocking;
use crate::supervisor::{Plan, Supervisor};

/// A program in a process group of its own; it is killed when this is dropped or this process dies.
#[derive(Debug)]
pub struct Process {
    supervisor: Arc<Supervisor>,
}

impl Process {
    /// Starts a program in a kept folder that no other process uses; what it prints is appended to `log`.
    ///
    /// Of the command its program, arguments and variables count.
    pub async fn start(name: &str, command: &Command, folder: &Path, log: &Path) -> Result<Self> {
        let owned = |text: &OsStr| text.to_owned();
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let plan = Plan {
            name: name.to_owned(),
            command: std::iter::once(command.get_program())
                .chain(command.get_args())
                .map(owned)
                .collect(),
            environment: command
                .get_envs()
                .map(|(name, value)| (owned(name), value.map(owned)))
                .collect(),
            log: std::path::absolute(log)?,
            append: true,
            prepare: String::new(),
            folder: folder.canonicalize()?,
            keep: true,
            user: None,
            last_signal: "KILL",
            ready_line: "",
        };
        let started = move || {
            let supervisor = Supervisor::open(plan)?;
            supervisor.start()?;
            Ok(supervisor)
        };
        Ok(Self {
            supervisor: Arc::new(blocking(started).await?),
        })
    }

    /// Its id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.process().ok().flatten()
    }

    /// Asks it to end with SIGTERM, waking it if it is paused, and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        if self.pid().is_some() {
            self.supervisor.signal("CONT")?;
        }
        self.end("TERM").await
    }

    /// Kills it with -9, paused or not.
    pub async fn kill(&self) -> Result<()> {
        self.end("KILL").await
    }

    /// Starts it again, stopping it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.start()).await
    }

    /// Freezes it with SIGSTOP, and returns once it does not run any more.
    pub async fn pause(&self) -> Result<()> {
        self.freeze(true).await
    }

    /// Lets a paused one go on.
    pub async fn resume(&self) -> Result<()> {
        self.freeze(false).await
    }

    async fn freeze(&self, frozen: bool) -> Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.freeze(frozen)).await
    }

    async fn end(&self, signal: &'static str) -> Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.end(signal)).await
    }
}
