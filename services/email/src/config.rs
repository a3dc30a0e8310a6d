//! What the email service must be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use lettre::message::Mailbox;
use secrecy::SecretString;

/// Read from the environment; `--help` lists every variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "email",
    about = "Notifications: rendered, and sent once an order and template"
)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub chassis: chassis::Config,

    /// What this service alone must know.
    #[command(flatten)]
    pub mail: MailConfig,
}

/// How mail leaves the house.
#[derive(Debug, Clone, clap::Args)]
pub struct MailConfig {
    /// The mail server: `smtp://host:port`, `smtp://user:password@host:port?tls=required` for STARTTLS,
    /// or `smtps://user:password@host`. Empty or absent: messages become files in MAIL_DIR.
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<SecretString>,

    /// How long the mail server may take for one message, in milliseconds; well below a minute.
    #[arg(long, env = "SMTP_TIMEOUT_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=30_000))]
    pub smtp_timeout_ms: u64,

    /// The folder for `.eml` files when there is no mail server; made when it is missing.
    #[arg(long, env = "MAIL_DIR", default_value = "mail")]
    pub mail_dir: PathBuf,

    /// The sender of every message, `Name <address>`.
    #[arg(long, env = "MAIL_FROM", default_value = "Tidings <shop@tidings.example>")]
    pub mail_from: Mailbox,
}

impl MailConfig {
    /// How long the mail server may take for one message.
    pub fn smtp_timeout(&self) -> Duration {
        Duration::from_millis(self.smtp_timeout_ms)
    }
}

impl Config {
    /// Reads the environment; a bad value ends the process with a sentence that names it.
    pub fn from_env() -> Self {
        chassis::from_env()
    }
}
