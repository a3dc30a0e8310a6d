//! The book on disk: an append-only file of facts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, bail};

use crate::facts::Fact;
use crate::refusal::Refusal;

/// The open file; one process at a time holds it.
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal of `folder`, hands every fact of it to `apply`, and cuts off a last line that a crash left torn.
    pub(crate) fn open(folder: &Path, apply: impl FnMut(Fact) -> Result<(), Refusal>) -> anyhow::Result<Self> {
        let path = folder.join("book.jsonl");
        let file =
            Self::claim(folder, &path).with_context(|| format!("cannot open {} (GATEWAY_DATA)", path.display()))?;
        let whole = replay(&file, apply).with_context(|| format!("cannot read {}", path.display()))?;
        let torn = file.metadata()?.len() - whole;
        if torn > 0 {
            tracing::warn!(bytes = torn, "dropping a last line that was cut short");
            file.set_len(whole)?;
            file.sync_all()?;
        }
        Ok(Self { file })
    }

    /// Creates what is missing and locks the file against a second gateway.
    fn claim(folder: &Path, path: &Path) -> io::Result<File> {
        fs::create_dir_all(folder)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.try_lock()?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    }

    /// Returns once the lines are on disk. After an error what the file holds is unknown: reopen it.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(lines)?;
        self.file.sync_data()
    }
}

/// Applies every complete line and returns how many bytes they take.
fn replay(file: &File, mut apply: impl FnMut(Fact) -> Result<(), Refusal>) -> anyhow::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut whole, mut number) = (Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        number += 1;
        let fact = serde_json::from_slice(&line).with_context(|| format!("line {number} is not a fact"))?;
        if let Err(refusal) = apply(fact) {
            bail!(
                "line {number} does not follow from those before it: {}",
                refusal.message()
            );
        }
        whole += line.len() as u64;
        line.clear();
    }
    Ok(whole)
}
