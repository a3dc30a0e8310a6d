//! Who is in the way.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long the programs of a shop that was killed may take to let go.
const GRACE: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(100);

/// Checks that each port is free; the error names every one that is not, what wants it, and who has it.
pub(super) async fn check(wanted: &[(u16, String)]) -> Result<()> {
    let is_taken = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
    let deadline = Instant::now() + GRACE;
    while wanted.iter().any(|(port, _)| is_taken(*port)) && Instant::now() < deadline {
        tokio::time::sleep(GLANCE).await;
    }
    let taken = wanted.iter().filter(|(port, _)| is_taken(*port));
    let complaints: Vec<String> = taken
        .map(|(port, what)| {
            let holder = holder(*port).unwrap_or_else(|| "another process".to_owned());
            format!("port {port} ({what}) is taken by {holder}")
        })
        .collect();
    ensure!(complaints.is_empty(), "{}", complaints.join("\n       "));
    Ok(())
}

/// The process that listens on a port, where the system tells.
fn holder(port: u16) -> Option<String> {
    from_proc(port).or_else(|| from_lsof(port))
}

/// Linux: from the table of sockets to the process that has one of them open.
fn from_proc(port: u16) -> Option<String> {
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes: Vec<String> = sockets
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&format!(":{port:04X}"));
            listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        })
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let listens = files.any(|file| {
            let target = fs::read_link(file.path()).unwrap_or_default();
            inodes.iter().any(|inode| target.as_os_str() == inode.as_str())
        });
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        listens.then(|| format!("{} (process {pid})", name.trim()))
    })
}

/// Elsewhere: `lsof`, where it is installed.
fn from_lsof(port: u16) -> Option<String> {
    let what = format!("-iTCP:{port}");
    let output = Command::new("lsof")
        .args(["-nP", &what, "-sTCP:LISTEN", "-Fpc"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |letter| text.lines().find_map(|line| line.strip_prefix(letter));
    Some(format!("{} (process {})", field('c')?, field('p')?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_use_and_its_holder() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check(&[(port, "order".into())]).await.unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} (order)")), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        }
        drop(listener);
        check(&[(port, "order".into())]).await.unwrap();
    }
}
