//! Connecting to the broker as somebody.

use anyhow::{Context as _, Result};
use async_nats::{ConnectOptions, ServerAddr};

/// Servers of a comma-separated list, and options for whom the first of them names.
///
/// The client reads no credentials from an address by itself. Answers go to an inbox that is named after the user: one
/// that is shared could be read by everybody.
pub fn options(url: &str) -> Result<(ConnectOptions, Vec<ServerAddr>)> {
    let servers: Vec<ServerAddr> = url
        .split(',')
        .map(|server| server.trim().parse())
        .collect::<Result<_, _>>()
        .context("NATS_URL")?;
    let mut options = ConnectOptions::new();
    let named = servers
        .first()
        .and_then(|server| server.username().zip(server.password()));
    if let Some((user, password)) = named {
        options = options
            .user_and_password(user.to_owned(), password.to_owned())
            .custom_inbox_prefix(inbox(user));
    }
    Ok((options, servers))
}

/// The private inbox of a user: the only subjects that it may subscribe to.
pub fn inbox(user: &str) -> String {
    format!("_INBOX_{user}")
}
