//! The programs that the testbed runs, and where they are found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::install;

const POSTGRES: (u32, u32) = (15, 0);
/// The first with atomic batch publishing.
const NATS: (u32, u32) = (2, 12);

/// The programs of a PostgreSQL ≥ 15 and a nats-server ≥ 2.12.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder with `postgres`, `initdb`, `psql` …
    pub postgres_bin: PathBuf,
    /// The broker's executable.
    pub nats_server: PathBuf,
}

impl Tools {
    /// Finds what the machine has: `TIDINGS_PG_BIN` and `TIDINGS_NATS_SERVER` first, then the usual places.
    pub fn find() -> Result<Self> {
        Ok(Self {
            postgres_bin: find_postgres()?.context("PostgreSQL 15 or newer is not installed")?,
            nats_server: find_nats()?.context("nats-server 2.12 or newer is not installed")?,
        })
    }

    /// Finds the programs, installing what is missing; every step is told to `progress` first.
    pub fn find_or_install(progress: impl Fn(&str)) -> Result<Self> {
        Ok(Self {
            postgres_bin: postgres_or_install(&progress)?,
            nats_server: nats_or_install(&progress)?,
        })
    }
}

/// Where downloaded programs are kept: `TIDINGS_TOOLS`, or `.shop/tools` in the workspace.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(std::path::absolute(choose_folder())?)
}

fn choose_folder() -> PathBuf {
    if let Some(folder) = env::var_os("TIDINGS_TOOLS") {
        return folder.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    match workspace.filter(|root| root.join("Cargo.toml").exists()) {
        Some(root) => root.join(".shop/tools"),
        None => PathBuf::from(".shop/tools"),
    }
}

/// Found once per process, installed if missing, with the steps on standard error.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, || postgres_or_install(&|step| eprintln!("{step}")))
}

/// Found once per process, installed if missing, with the steps on standard error.
pub(crate) fn nats_server() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, || nats_or_install(&|step| eprintln!("{step}")))
}

fn once(cell: &OnceLock<PathBuf>, find: impl Fn() -> Result<PathBuf>) -> Result<PathBuf> {
    match cell.get() {
        Some(path) => Ok(path.clone()),
        None => find().map(|path| cell.get_or_init(|| path).clone()),
    }
}

fn postgres_or_install(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    if let Some(bin) = find_postgres()? {
        return Ok(bin);
    }
    let _one_at_a_time = install::lock()?;
    if find_postgres()?.is_none() {
        install::postgres(progress)?;
    }
    find_postgres()?
        .context("no PostgreSQL 15 or newer could be had; install one and set TIDINGS_PG_BIN to its bin folder")
}

fn nats_or_install(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    if let Some(program) = find_nats()? {
        return Ok(program);
    }
    let _one_at_a_time = install::lock()?;
    if find_nats()?.is_none() {
        install::nats_server(progress)?;
    }
    find_nats()?.context("no nats-server 2.12 or newer could be had; install one and set TIDINGS_NATS_SERVER to it")
}

pub(crate) fn find_postgres() -> Result<Option<PathBuf>> {
    let places = match env::var_os("TIDINGS_PG_BIN").map(PathBuf::from) {
        Some(bin) if !is_postgres(&bin) => {
            bail!("TIDINGS_PG_BIN={} holds no PostgreSQL 15 or newer", bin.display())
        }
        Some(bin) => vec![bin],
        None => postgres_folders()?,
    };
    let found = places.into_iter().find(|bin| is_postgres(bin));
    Ok(found.map(std::path::absolute).transpose()?)
}

pub(crate) fn find_nats() -> Result<Option<PathBuf>> {
    let places = match env::var_os("TIDINGS_NATS_SERVER").map(PathBuf::from) {
        Some(program) if !is_nats(&program) => {
            bail!(
                "TIDINGS_NATS_SERVER={} is no nats-server 2.12 or newer",
                program.display()
            )
        }
        Some(program) => vec![program],
        None => [on_path("nats-server"), vec![folder()?.join("nats-server")]].concat(),
    };
    let found = places.into_iter().find(|program| is_nats(program));
    Ok(found.map(std::path::absolute).transpose()?)
}

fn postgres_folders() -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    if let Some(bin) = output("pg_config", "--bindir") {
        folders.push(PathBuf::from(bin));
    }
    for parent in [
        "/usr/lib/postgresql",
        "/usr/libexec",
        "/usr",
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ] {
        folders.extend(newest_first(Path::new(parent)));
    }
    folders.extend(
        on_path("postgres")
            .iter()
            .filter_map(|program| program.parent())
            .map(Path::to_owned),
    );
    folders.push(folder()?.join(install::POSTGRES_BIN));
    Ok(folders)
}

/// The folders of the versions kept side by side: `15/bin`, `postgresql16`, `pgsql-17/bin`, `postgresql@17/bin`.
fn newest_first(parent: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = names
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
        .into_iter()
        .flat_map(|(_, path)| [path.join("bin"), path])
        .collect()
}

pub(crate) fn on_path(program: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .filter(|file| file.is_file())
        .collect()
}

fn is_postgres(bin: &Path) -> bool {
    bin.join("initdb").exists() && version(&bin.join("postgres")) >= Some(POSTGRES)
}

fn is_nats(program: &Path) -> bool {
    version(program) >= Some(NATS)
}

pub(crate) fn version(program: &Path) -> Option<(u32, u32)> {
    parse_version(&output(program, "--version")?)
}

pub(crate) fn output(program: impl AsRef<Path>, argument: &str) -> Option<String> {
    let output = Command::new(program.as_ref()).arg(argument).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`, `nats-server: v2.15.1` and `k6 v1.1.0 (commit/…)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    Some((numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_version(debian), Some((15, 18)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some((18, 0)));
        assert_eq!(parse_version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(parse_version("nats-server: v2.15.1-RC.1"), Some((2, 15)));
        assert_eq!(parse_version("k6 v1.1.0 (commit/0e3fb953be, go1.24.4)"), Some((1, 1)));
        assert_eq!(parse_version("command not found"), None);
    }

    #[test]
    fn an_older_broker_is_not_good_enough() {
        assert!(parse_version("nats-server: v2.9.10") < Some(NATS));
        assert!(parse_version("nats-server: v2.12.0") >= Some(NATS));
    }
}
