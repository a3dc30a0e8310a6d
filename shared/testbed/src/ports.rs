//! Free TCP ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Where blocks of ports begin: below the ranges that systems take client ports from.
const FIRST: u16 = 12_000;
const BLOCKS: u16 = 200;
const BLOCK: u16 = 100;

static CLAIMS: Mutex<Claims> = Mutex::new(Claims::NONE);

/// A port that nothing listens on, never the same one twice in a process, nor in two that run at once.
///
/// It lies below the ranges that systems take client ports from: no connection occupies it while
/// its server is down, and no client that keeps trying connects to itself.
///
/// # Errors
/// If other processes have claimed all there are.
pub fn free_port() -> Result<u16> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The blocks of ports that are this process's own.
struct Claims {
    /// A datagram socket on the first port of each, which the system closes when the process ends however it ends.
    /// Servers listen on streams, so it is in nobody's way.
    held: Vec<UdpSocket>,
    /// What is left of the latest.
    left: Range<u16>,
}

impl Claims {
    const NONE: Self = Self {
        held: Vec::new(),
        left: 0..0,
    };

    fn next(&mut self) -> Result<u16> {
        loop {
            let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
            match self.left.find(free) {
                Some(port) => return Ok(port),
                None => self.claim()?,
            }
        }
    }

    fn claim(&mut self) -> Result<()> {
        let from = fastrand::u16(0..BLOCKS);
        for block in (from..BLOCKS).chain(0..from) {
            let first = FIRST + block * BLOCK;
            if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, first)) {
                self.held.push(socket);
                self.left = first..first + BLOCK;
                return Ok(());
            }
        }
        bail!(
            "every port of 127.0.0.1 between {FIRST} and {} is taken",
            FIRST + BLOCKS * BLOCK
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_although_nobody_listens_there_yet() {
        let mut processes = [Claims::NONE, Claims::NONE, Claims::NONE];
        let ports: Vec<u16> = (0..600).map(|i| processes[i % 3].next().unwrap()).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    }
}
