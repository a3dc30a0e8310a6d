//! Free TCP ports on 127.0.0.1.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nothing listens on, never the same one twice in a process.
///
/// It lies below the ranges that systems take client ports from: no connection occupies it while
/// its server is down, and no client that keeps trying connects to itself.
pub fn free_port() -> Result<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        let port = fastrand::u16(12_000..32_000);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && handed_out.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port was found on 127.0.0.1 between 12000 and 32000")
}
