//! `cargo prepare`: the committed descriptions of every SQL query, renewed from the migrations.
//!
//! Each crate with a `sqlx.toml` is compiled against a database of its own with its migrations, and describes its
//! queries on the way. This builds without the services, which do not compile while their descriptions are stale.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Args;
use sqlx::PgPool;
use sqlx::migrate::{Migration, Migrator};
use testbed::{Place, Postgres, Scratch};

use crate::workspace::{cargo, root};

/// The crate whose tables everybody has, and that everybody compiles; it comes first.
const CORE: &str = "messaging";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Changes nothing, and fails if something would change.
    #[arg(long)]
    check: bool,
}

/// A crate with checked SQL.
struct Package {
    name: String,
    folder: PathBuf,
    /// The variable that its `sqlx.toml` names.
    url_variable: String,
}

/// What is said of the queries of a crate: files by name.
type Descriptions = BTreeMap<String, Vec<u8>>;

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let packages = packages(&root()?)?;
    println!("Starting a temporary PostgreSQL.");
    let postgres = Postgres::start(Place::temporary()).await?;
    let scratch = Scratch::new("prepare").await?;
    let mut stale = 0;
    for package in &packages {
        let fresh = scratch.path().join(&package.name);
        fs::create_dir(&fresh)?;
        lend(&scratch.path().join(CORE), &fresh)?;
        migrate(package, &postgres).await?;
        describe(package, &packages, &postgres, &fresh)?;
        stale += usize::from(settle(package, &fresh, options.check)?);
    }
    match stale {
        0 => println!("Every description is up to date."),
        _ if options.check => println!("{stale} crates are out of date: cargo prepare renews them."),
        _ => println!("Renewed {stale} crates."),
    }
    let failed = options.check && stale > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The crates with a `sqlx.toml`, the messaging core first.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for group in ["shared", "services", "xtask"] {
        for folder in fs::read_dir(root.join(group))? {
            let folder = folder?.path();
            let Ok(settings) = fs::read_to_string(folder.join("sqlx.toml")) else {
                continue;
            };
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let variable = settings
                .lines()
                .find_map(|line| line.strip_prefix("database-url-var = "));
            let variable = variable.with_context(|| format!("{name}/sqlx.toml names no database-url-var"))?;
            packages.push(Package {
                name,
                folder,
                url_variable: variable.trim_matches('"').to_owned(),
            });
        }
    }
    packages.sort_by_key(|package| (package.name != CORE, package.name.clone()));
    Ok(packages)
}

/// Makes the crate's database: the tables of the core, then its own.
async fn migrate(package: &Package, postgres: &Postgres) -> Result<()> {
    let mut migrations: Vec<Migration> = Vec::new();
    let own = (package.name != CORE).then_some(package.name.as_str());
    for of in std::iter::once(CORE).chain(own) {
        let folder = root()?.join("migrations").join(of);
        if folder.is_dir() {
            migrations.extend(Migrator::new(folder).await?.iter().cloned());
        }
    }
    postgres.create_database(&package.name).await?;
    let pool = PgPool::connect(&postgres.socket_url(&package.name)).await?;
    let migrated = Migrator::with_migrations(migrations).run(&pool).await;
    migrated.with_context(|| format!("cannot migrate the database of {}", package.name))?;
    pool.close().await;
    Ok(())
}

/// Links to what is said of the core's queries: cargo may compile the core once more, with other features.
fn lend(core: &Path, fresh: &Path) -> Result<()> {
    for name in read(core)?.keys() {
        symlink(core.join(name), fresh.join(name))?;
    }
    Ok(())
}

/// Compiles the crate against its database, which leaves the descriptions in `fresh`.
fn describe(package: &Package, all: &[Package], postgres: &Postgres, fresh: &Path) -> Result<()> {
    let source = package.folder.join("src/lib.rs");
    // Cargo does not see that the database is another one.
    fs::File::open(&source)?.set_modified(SystemTime::now())?;
    let mut check = cargo()?;
    for other in all {
        check.env_remove(&other.url_variable);
    }
    let status = check
        .args(["check", "--package", &package.name])
        .env(&package.url_variable, postgres.socket_url(&package.name))
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", fresh)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{} does not compile", package.name);
    Ok(())
}

/// Replaces the committed descriptions by the fresh ones, or only tells the difference; whether there was one.
fn settle(package: &Package, fresh: &Path, only_check: bool) -> Result<bool> {
    let committed = package.folder.join(".sqlx");
    let (before, after) = (read(&committed)?, read(fresh)?);
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let changed = after
        .iter()
        .filter(|(name, content)| before.get(*name) != Some(content));
    let (gone, changed): (Vec<_>, Vec<_>) = (gone.collect(), changed.collect());
    println!(
        "{}: {} queries, {} new or changed, {} gone",
        package.name,
        after.len(),
        changed.len(),
        gone.len()
    );
    if !only_check {
        fs::create_dir_all(&committed)?;
        for name in &gone {
            fs::remove_file(committed.join(name))?;
        }
        for (name, content) in &changed {
            fs::write(committed.join(name), content)?;
        }
    }
    Ok(!gone.is_empty() || !changed.is_empty())
}

/// The files of a folder, without what was only lent; none where there is no folder.
fn read(folder: &Path) -> Result<Descriptions> {
    let mut descriptions = Descriptions::new();
    let Ok(files) = fs::read_dir(folder) else {
        return Ok(descriptions);
    };
    for file in files {
        let file = file?;
        if file.file_type()?.is_file() {
            descriptions.insert(file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?);
        }
    }
    Ok(descriptions)
}
