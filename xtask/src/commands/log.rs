//! Log files as they grow, and their lines as people read them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use xtask::shop::Service;

use super::ink::Ink;
use super::running::data;

/// How often a file is looked at while it is followed.
const LOOK: Duration = Duration::from_millis(100);

/// The logs of several programs, read from the beginning and onwards.
pub(super) struct Logs {
    tails: Vec<Tail>,
}

struct Tail {
    name: String,
    path: PathBuf,
    read: u64,
    /// A line whose end was not written yet.
    begun: Vec<u8>,
    /// The time of the last line that had one; a panic's lines have none of their own.
    time: String,
}

/// A line, whose it is, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    time: String,
    program: String,
    text: String,
}

impl Logs {
    /// What the services and the sandbox gateway print.
    pub(super) fn of_services() -> Result<Self> {
        let names = Service::ALL.map(Service::name);
        let paths = names.into_iter().chain(["sandbox-gateway"]).map(Self::path);
        Ok(Self {
            tails: paths.collect::<Result<_>>()?,
        })
    }

    /// What one program prints: a service, `sandbox-gateway`, `postgres`, `nats`.
    pub(super) fn of(program: &str) -> Result<Self> {
        let tail = Self::path(program)?;
        let known = tail.path.exists() || program.parse::<Service>().is_ok();
        anyhow::ensure!(known, "there is no log of {program:?} in .shop");
        Ok(Self { tails: vec![tail] })
    }

    fn path(program: &str) -> Result<Tail> {
        let path = match program {
            "postgres" | "nats" => data()?.join(program).join("server.log"),
            _ => data()?.join("logs").join(program).with_extension("log"),
        };
        Ok(Tail {
            name: program.to_owned(),
            path,
            read: 0,
            begun: Vec::new(),
            time: String::new(),
        })
    }

    /// What was written since the last call, in order of time.
    pub(super) fn news(&mut self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.tails.iter_mut().flat_map(Tail::news).collect();
        lines.sort_by(|a, b| a.time.cmp(&b.time));
        lines
    }

    /// Shows what is written from now on, until the future is dropped or nobody reads any more.
    pub(super) async fn follow(&mut self, ink: Ink) {
        while show(&self.news(), ink).is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Tail {
    fn news(&mut self) -> Vec<Line> {
        // A file that cannot be read yet has no news.
        let _ = self.read_on();
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.begun.drain(..=end).collect();
        let text = String::from_utf8_lossy(&whole).into_owned();
        text.lines().map(|line| self.line(line)).collect()
    }

    fn read_on(&mut self) -> std::io::Result<()> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.read {
            // Another run has begun a new file.
            self.read = 0;
            self.begun.clear();
        }
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.begun)? as u64;
        Ok(())
    }

    fn line(&mut self, line: &str) -> Line {
        let first = line.split(' ').next().unwrap_or_default();
        let timed = chrono::DateTime::parse_from_rfc3339(first).is_ok();
        if timed {
            first.clone_into(&mut self.time);
        }
        Line {
            time: self.time.clone(),
            program: self.name.clone(),
            text: line[if timed { first.len() } else { 0 }..].trim_start().to_owned(),
        }
    }
}

impl Line {
    fn shown(&self, ink: Ink) -> String {
        let (level, rest) = self.text.split_once(' ').unwrap_or((&self.text, ""));
        let level = match level {
            "ERROR" => ink.bad(level),
            "WARN" => ink.warning(level),
            "INFO" => ink.good(level),
            _ => level.to_owned(),
        };
        // The day and the microseconds help nobody who watches.
        let time = self.time.get(11..23).unwrap_or_default();
        format!("{} {} {level} {rest}", ink.dim(time), ink.program(&self.program))
    }
}

/// Prints the lines; fails when nobody reads any more.
pub(super) fn show(lines: &[Line], ink: Ink) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.shown(ink))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_without_a_time_stays_with_the_one_above_and_half_a_line_waits() {
        let folder = std::env::temp_dir().join(format!("tidings-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("order.log");
        std::fs::write(&path, "2026-01-02T03:04:05.678901Z  INFO started\nthread panicked\nhal").unwrap();
        let mut tail = Tail {
            path: path.clone(),
            ..Logs::path("order").unwrap()
        };
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| (line.time, line.text)).collect::<Vec<_>>();
        let time = "2026-01-02T03:04:05.678901Z".to_owned();
        let expected = ["INFO started", "thread panicked"].map(|text| (time.clone(), text.to_owned()));
        assert_eq!(texts(tail.news()), expected);

        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"f a line\n").unwrap();
        assert_eq!(texts(tail.news()), [(time, "half a line".to_owned())]);
        assert_eq!(tail.news(), []);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
