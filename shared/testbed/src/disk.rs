//! A disk whose power can be cut: whatever was not synced is gone, as on a real one.
//!
//! A file with an ext4 on it, mounted through a loop device, is shut down by the same call that xfstests'
//! *godown* makes: nothing more reaches it, its journal is not flushed. Needs root and loop devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{Scratch, blocking};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`; perl is on every Debian, and needs no unsafe code.
const SHUT_DOWN: &str =
    r#"open(D, "<", $ARGV[0]) or die $!; $how = pack("L", 2); ioctl(D, 0x8004587D, $how) or die $!"#;

/// A mounted disk; dropping it unmounts and removes it.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    image: PathBuf,
    _scratch: Scratch,
}

impl Disk {
    /// A new, empty disk, or the reason why this machine cannot have one.
    pub async fn new(megabytes: u32) -> Result<Self> {
        let scratch = Scratch::new("disk").await?;
        let (folder, image) = (scratch.path().join("mounted"), scratch.path().join("image"));
        blocking(move || {
            fs::create_dir(&folder)?;
            fs::File::create(&image)?.set_len(u64::from(megabytes) << 20)?;
            run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
            mount(&image, &folder)?;
            Ok(Self {
                folder,
                image,
                _scratch: scratch,
            })
        })
        .await
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cuts the power: from now on every access fails, and what was not synced is lost.
    pub fn cut_power(&self) -> Result<()> {
        run(Command::new("perl").args(["-e", SHUT_DOWN]).arg(&self.folder))
    }

    /// Mounts it again as the power cut left it; nobody may have a file on it open.
    pub fn power_up(&self) -> Result<()> {
        run(Command::new("umount").arg(&self.folder))?;
        mount(&self.image, &self.folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.folder));
    }
}

fn mount(image: &Path, folder: &Path) -> Result<()> {
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(folder))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(())
}
