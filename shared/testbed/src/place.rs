//! Where a server keeps its files, for how long, and as which user it runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// What a server's acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process, not that of the machine; faster.
    Test,
    /// A power cut as well.
    Real,
}

/// The folder of a server, and the port it listens on.
#[derive(Clone, Debug)]
pub struct Place {
    pub(crate) kept: Option<PathBuf>,
    pub(crate) port: Option<u16>,
    pub(crate) durability: Durability,
}

impl Place {
    /// A fresh folder that is removed with the server, a free port, [`Durability::Test`].
    pub fn temporary() -> Self {
        Self {
            kept: None,
            port: None,
            durability: Durability::Test,
        }
    }

    /// A folder that outlives the server and is found again, a free port, [`Durability::Real`].
    pub fn kept(folder: impl Into<PathBuf>) -> Self {
        Self {
            kept: Some(folder.into()),
            port: None,
            durability: Durability::Real,
        }
    }

    /// Insists on this port instead of a free one.
    pub fn on_port(self, port: u16) -> Self {
        Self {
            port: Some(port),
            ..self
        }
    }

    /// Overrides what the acknowledgements of the server survive.
    pub fn with(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// The folder to use: an existing one that `user` owns, or a name the supervisor will create.
    pub(crate) fn folder(&self, name: &str, user: Option<&User>) -> Result<PathBuf> {
        match &self.kept {
            Some(folder) => {
                keep(folder, user).with_context(|| format!("cannot prepare the folder {} for {name}", folder.display()))
            }
            None => Ok(scratch(user).join(format!("tidings-{name}-{:012x}", unlikely_twice()))),
        }
    }
}

/// Temporary folders: short, since a socket's path has room for a hundred bytes only.
fn scratch(user: Option<&User>) -> PathBuf {
    match user {
        Some(_) => PathBuf::from("/tmp"),
        None => std::env::temp_dir(),
    }
}

fn unlikely_twice() -> u64 {
    (u64::from(std::process::id()) << 24 | fastrand::u64(..1 << 24)) & 0xffff_ffff_ffff
}

fn keep(folder: &Path, user: Option<&User>) -> Result<PathBuf> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    if let Some(user) = user {
        move_within_reach(folder, user)?;
    }
    fs::create_dir_all(folder)?;
    if let Some(user) = user {
        chown(folder, Some(user.uid), Some(user.gid))?;
    }
    Ok(folder.canonicalize()?)
}

/// In a home that lets nobody in, root's for instance, a new folder becomes a link to an open place.
fn move_within_reach(folder: &Path, user: &User) -> Result<()> {
    if folder.exists() || user.reaches(folder.parent().unwrap_or(folder))? {
        return Ok(());
    }
    if folder.is_symlink() {
        fs::remove_file(folder)?;
    }
    let elsewhere = format!("/var/lib/tidings/{:012x}", unlikely_twice());
    fs::create_dir_all(&elsewhere)?;
    Ok(symlink(elsewhere, folder)?)
}

/// The user that servers run as which refuse to run as root.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// `postgres` or `nobody` when this process is root, otherwise nobody else.
    pub(crate) fn instead_of_root() -> Option<&'static User> {
        static USER: OnceLock<Option<User>> = OnceLock::new();
        USER.get_or_init(|| {
            (id(&["-u"])? == 0)
                .then(|| ["postgres", "nobody"].into_iter().find_map(User::named))
                .flatten()
        })
        .as_ref()
    }

    fn named(name: &str) -> Option<User> {
        Some(User {
            uid: id(&["-u", name])?,
            gid: id(&["-g", name])?,
        })
    }

    /// Whether every folder on the way lets this user through.
    fn reaches(&self, folder: &Path) -> Result<bool> {
        for step in folder.canonicalize()?.ancestors() {
            let meta = fs::metadata(step)?;
            let bit = match meta {
                _ if meta.uid() == self.uid => 0o100,
                _ if meta.gid() == self.gid => 0o010,
                _ => 0o001,
            };
            if meta.mode() & bit == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
