//! `order health`: what a container's health check runs, where there is neither shell nor curl.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Command;

/// Longer than readiness waits for the database and the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
pub(crate) const NAME: &str = "health";

pub(crate) fn command() -> Command {
    Command::new(NAME).about("Asks the service that runs at ADMIN_ADDR whether it is ready; exits with 1 if it is not")
}

/// Asks `/readyz`; the error says why the service is not ready.
pub(crate) fn ready(admin_addr: SocketAddr) -> Result<()> {
    let mut link = TcpStream::connect_timeout(&reachable(admin_addr), ANSWER_WITHIN)
        .with_context(|| format!("nobody listens on ADMIN_ADDR {admin_addr}"))?;
    link.set_read_timeout(Some(ANSWER_WITHIN))?;
    link.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    link.read_to_string(&mut answer).context("no answer in time")?;
    let said = answer.lines().last().unwrap_or_default();
    ensure!(answer.starts_with("HTTP/1.1 200 "), "not ready: {said}");
    Ok(())
}

/// Who listens on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with this, and returns what was asked.
    fn asked_of(answer: &'static str) -> (Result<()>, String) {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut link, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = link.read(&mut request).unwrap();
            link.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (ready(address), server.join().unwrap())
    }

    #[test]
    fn a_service_that_says_ready_is_healthy() {
        let (outcome, request) = asked_of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        outcome.unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn a_service_that_is_ending_is_not_healthy_and_says_so() {
        let (outcome, _) = asked_of("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"ending\"}");
        assert_eq!(outcome.unwrap_err().to_string(), "not ready: {\"status\":\"ending\"}");
    }

    #[test]
    fn a_service_that_does_not_listen_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = ready(address).unwrap_err().to_string();
        assert_eq!(error, format!("nobody listens on ADMIN_ADDR {address}"));
    }
}
