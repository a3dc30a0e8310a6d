//! A copy of this workspace that shares what has been compiled.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::Scratch;

/// What is no source of anybody's.
const LEFT_OUT: [&str; 3] = [".git", ".shop", "target"];

/// The copy; it goes with this.
pub(crate) struct Workspace {
    root: PathBuf,
    /// Of the executable that runs this, hence of whatever was compiled beside it.
    profile: PathBuf,
    _scratch: Scratch,
}

impl Workspace {
    /// Copies the sources with their times, by which cargo knows that they are the same.
    pub(crate) async fn copied() -> Result<Self> {
        let scratch = Scratch::new("scaffold").await?;
        // Where the system keeps temporary files under another name, cargo wants the real one.
        let root = scratch.path().canonicalize()?.join("tidings");
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
        copy(own, &root)?;
        let executable = std::env::current_exe()?;
        let profile = executable.ancestors().nth(2).context("no target folder")?;
        Ok(Self {
            root,
            profile: profile.to_owned(),
            _scratch: scratch,
        })
    }

    /// Every source by its path, and what is in it.
    pub(crate) fn files(&self) -> Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for path in walk(&self.root)? {
            let inside = path.strip_prefix(&self.root)?.display().to_string();
            files.insert(inside, String::from_utf8_lossy(&fs::read(&path)?).into_owned());
        }
        Ok(files)
    }

    /// `cargo shop`, as it was built before the copy was changed; what it printed, and whether it succeeded.
    pub(crate) fn shop(&self, arguments: &[&str]) -> Result<(bool, String)> {
        self.shop_from(&self.profile, arguments, &[])
    }

    /// `cargo shop`, as it was built from the copy.
    pub(crate) fn changed_shop(&self, arguments: &[&str], env: &[(&str, &str)]) -> Result<(bool, String)> {
        self.shop_from(&self.binaries(), arguments, env)
    }

    fn shop_from(&self, binaries: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Result<(bool, String)> {
        let mut shop = Command::new(binaries.join("shop"));
        shop.args(arguments)
            .envs(env.iter().copied())
            .current_dir(&self.root)
            // As `cargo run` says it in the copy.
            .env("CARGO_MANIFEST_DIR", self.root.join("xtask"));
        output(shop)
    }

    /// Whoever else runs this test waits until this is dropped: they compile crates of the same names.
    pub(crate) fn alone(&self) -> Result<File> {
        let folder = self.profile.parent().context("no target folder")?;
        let lock = File::create(folder.join("scaffold.lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// The programs that were built from the copy.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.root
            .join("target")
            .join(self.profile.file_name().unwrap_or_default())
    }

    /// Runs cargo in the copy, and fails with everything it printed.
    ///
    /// The whole workspace is always meant, and the environment is ours, so that nothing is compiled again with other
    /// features or because a variable differs.
    pub(crate) fn cargo(&self, arguments: &str) -> Result<String> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
                cargo.env_remove(&name);
            }
        }
        cargo
            .args(arguments.split(' '))
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env(
                "CARGO_BUILD_BUILD_DIR",
                self.profile.parent().context("no target folder")?,
            )
            .env("CARGO_NET_OFFLINE", "true");
        if self.profile.file_name() == Some(OsStr::new("release")) && !arguments.starts_with("fmt") {
            cargo.arg("--release");
        }
        let (succeeded, printed) = output(cargo)?;
        ensure!(succeeded, "cargo {arguments}:\n{printed}");
        Ok(printed)
    }

    /// Compiles the tests of a package, runs each, and returns what they printed.
    pub(crate) fn test(&self, package: &str) -> Result<String> {
        let targets = "test --workspace --lib --test api --test reactions --no-run --message-format json";
        let built = self.cargo(targets)?;
        let messages = built
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mine = messages.filter(|message| {
            let id = message["package_id"].as_str().unwrap_or_default();
            id.contains(&format!("/services/{package}#")) && message["profile"]["test"] == true
        });
        let programs = mine.filter_map(|message| message["executable"].as_str().map(str::to_owned));
        let mut all = String::new();
        for program in programs {
            let (succeeded, printed) = output(Command::new(&program))?;
            ensure!(succeeded, "{program}:\n{printed}");
            all += &printed;
        }
        Ok(all)
    }
}

/// Both streams of a program, once it has ended.
fn output(mut command: Command) -> Result<(bool, String)> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Every file that is a source.
fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for path in walk(from)? {
        let copied = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(copied.parent().context("no folder")?)?;
        fs::copy(&path, &copied)?;
        let written = fs::metadata(&path)?.modified()?;
        File::options().write(true).open(&copied)?.set_modified(written)?;
    }
    Ok(())
}
