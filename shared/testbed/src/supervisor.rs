//! A server under a small shell that outlives this process just long enough to end it.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::place::User;

const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(5);

/// What to run, where, and how to tell that it is ready.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) command: Vec<OsString>,
    /// Variables beside those of this process; without a value, one to leave out.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// Where it prints to, from the folder.
    pub(crate) log: PathBuf,
    /// Whether a start goes on with the log of the one before, or moves it aside.
    pub(crate) append: bool,
    /// A shell snippet that gets the command as its arguments.
    pub(crate) prepare: String,
    pub(crate) folder: PathBuf,
    pub(crate) keep: bool,
    pub(crate) user: Option<&'static User>,
    pub(crate) last_signal: &'static str,
    /// What it prints when it is ready; empty: it need not say so.
    pub(crate) ready_line: &'static str,
}

/// One server and its shell; dropping it ends both and returns when they are gone.
#[derive(Debug)]
pub(crate) struct Supervisor {
    name: String,
    folder: PathBuf,
    log: PathBuf,
    ready_line: &'static str,
    shell: Mutex<Shell>,
    /// Dropped after the shell, with the lock on a kept folder.
    _owner: Option<File>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    events: Receiver<String>,
    /// The server's process while it runs.
    running: Option<u32>,
}

impl Supervisor {
    /// Opens the folder, creating it if it is temporary; nothing runs in it yet.
    pub(crate) fn open(plan: Plan) -> Result<Self> {
        let (owner, log) = claim(&plan)?;
        let mut child = command(&plan).stderr(log).spawn().context("cannot run sh")?;
        let events = listen(&mut child)?;
        let mut shell = Shell {
            child,
            events,
            running: None,
        };
        shell.hear("open").map_err(|_| {
            anyhow!(
                "the user that {} runs as cannot use the folder {}",
                plan.name,
                plan.folder.display()
            )
        })?;
        Ok(Self {
            name: plan.name,
            log: plan.folder.join(&plan.log),
            folder: plan.folder,
            ready_line: plan.ready_line,
            shell: Mutex::new(shell),
            _owner: owner,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the preparation to its end; it is never cut short, not even by the owner's death.
    pub(crate) fn prepare(&self) -> Result<()> {
        let mut shell = self.shell();
        shell.order("prepare")?;
        match shell.event(PATIENCE)?.as_str() {
            "prepared 0" => Ok(()),
            _ => bail!(
                "{} could not be prepared:\n{}",
                self.name,
                self.tail(&self.folder.join("prepare.log"))
            ),
        }
    }

    /// Starts the server unless it runs, and returns once it is ready.
    pub(crate) fn start(&self) -> Result<()> {
        let mut shell = self.shell();
        if shell.process()?.is_some() {
            return Ok(());
        }
        shell.start()?;
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(self.ready_line) {
            if shell.ended_within(GLANCE)? {
                bail!("{} ended at once:\n{}", self.name, self.tail(&self.log));
            }
            if Instant::now() > deadline {
                bail!("{} is not ready in {PATIENCE:?}:\n{}", self.name, self.tail(&self.log));
            }
        }
        Ok(())
    }

    /// The server's process if it runs.
    pub(crate) fn process(&self) -> Result<Option<u32>> {
        self.shell().process()
    }

    /// Sends a signal that a running server survives.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let mut shell = self.shell();
        match shell.process()? {
            Some(_) => shell.order(signal),
            None => bail!("{} does not run", self.name),
        }
    }

    /// Freezes the running server, or lets it go on, and returns once that is so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        self.signal(if frozen { "STOP" } else { "CONT" })?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let process = self.process()?.with_context(|| format!("{} has ended", self.name))?;
            let answer = Command::new("ps")
                .args(["-o", "stat=", "-p", &process.to_string()])
                .output()?;
            if answer.stdout.contains(&b'T') == frozen {
                return Ok(());
            }
            std::thread::sleep(GLANCE);
        }
        bail!("{} neither stops nor goes on within {PATIENCE:?}", self.name)
    }

    /// Sends the signal to a running server and returns once it has ended.
    pub(crate) fn end(&self, signal: &str) -> Result<()> {
        let mut shell = self.shell();
        if shell.process()?.is_none() {
            return Ok(());
        }
        shell.order(signal)?;
        if !shell.ended_within(PATIENCE)? {
            bail!("{} does not end on {signal}:\n{}", self.name, self.tail(&self.log));
        }
        Ok(())
    }

    /// Whether the last start failed because somebody else has the port.
    pub(crate) fn port_was_taken(&self) -> bool {
        self.log().to_lowercase().contains("address already in use")
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn tail(&self, log: &Path) -> String {
        let bytes = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = self.child.wait();
    }
}

impl Shell {
    fn order(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the supervisor is closed")?;
        writeln!(input, "{line}").context("the supervisor is gone")
    }

    fn event(&mut self, patience: Duration) -> Result<String> {
        Ok(self.events.recv_timeout(patience)?)
    }

    fn hear(&mut self, event: &str) -> Result<()> {
        match self.event(PATIENCE)? {
            seen if seen == event => Ok(()),
            seen => bail!("the supervisor said {seen} instead of {event}"),
        }
    }

    fn start(&mut self) -> Result<()> {
        self.order("start")?;
        let answer = self.event(PATIENCE)?;
        let process = answer.strip_prefix("started ").and_then(|pid| pid.parse().ok());
        self.running = Some(process.with_context(|| format!("the supervisor said {answer} instead of started"))?);
        Ok(())
    }

    fn process(&mut self) -> Result<Option<u32>> {
        if self.running.is_some() {
            self.ended_within(Duration::ZERO)?;
        }
        Ok(self.running)
    }

    fn ended_within(&mut self, patience: Duration) -> Result<bool> {
        match self.events.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(gone) => Err(gone.into()),
            Ok(_ended) => {
                self.running = None;
                Ok(true)
            }
        }
    }
}

fn command(plan: &Plan) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", include_str!("supervisor.sh"), "supervisor"])
        .args(&plan.command)
        .env("FOLDER", &plan.folder)
        .env("KEEP", if plan.keep { "yes" } else { "" })
        .env("PREPARE", &plan.prepare)
        .env("LAST_SIGNAL", plan.last_signal)
        .env("LOG", &plan.log)
        .env("APPEND", if plan.append { "yes" } else { "" })
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for (name, value) in &plan.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(user) = plan.user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// The claim on a kept folder: one lock goes with the owner, one with its shell, which outlives it a little.
fn claim(plan: &Plan) -> Result<(Option<File>, Stdio)> {
    if !plan.keep {
        return Ok((None, Stdio::null()));
    }
    let owner = lock(plan, "owner.lock", Duration::from_secs(1))?;
    let shell = lock(plan, "supervisor.log", PATIENCE)?;
    Ok((Some(owner), shell.into()))
}

fn lock(plan: &Plan, name: &str, patience: Duration) -> Result<File> {
    let file = File::create(plan.folder.join(name))?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(GLANCE),
            Err(TryLockError::WouldBlock) => {
                bail!("another process runs {} in {}", plan.name, plan.folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

fn listen(child: &mut Child) -> Result<Receiver<String>> {
    let output = child.stdout.take().context("the supervisor has no output")?;
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    Ok(events)
}
