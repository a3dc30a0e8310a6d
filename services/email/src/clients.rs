//! What email asks of others: a mail server to take a message, or a folder that stands in for one.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tracing::Instrument;
use url::Url;
use uuid::Uuid;

use crate::config::MailConfig;
use crate::templates::Rendered;

/// How many messages are handed over at once; mail servers turn away a client that brings more.
const CONNECTIONS: usize = 8;

/// A message ready to go.
pub struct Mail {
    /// The same for every copy of it.
    pub notification_id: Uuid,
    /// The same in the words of mail.
    pub message_id: String,
    /// Personal data: never in a log, a span or an error.
    pub to: String,
    /// What it says.
    pub rendered: Rendered,
}

/// Why a message was not taken, in words without addresses or secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// The same message may be taken later.
    ForNow(String),
    /// It never will be.
    ForGood(String),
}

/// Hands messages over, each within its time.
pub struct Mailer {
    from: Mailbox,
    exit: Exit,
}

enum Exit {
    Server(Box<MailServer>),
    Folder(PathBuf),
}

impl Mailer {
    /// Decides where mail goes; nothing is connected yet, the mail server may come later.
    pub fn new(config: &MailConfig) -> anyhow::Result<Self> {
        let url = config
            .smtp_url
            .as_ref()
            .map(|url| url.expose_secret())
            .filter(|url| !url.is_empty());
        let exit = match url {
            Some(url) => Exit::Server(Box::new(MailServer::at(url, config.smtp_timeout())?)),
            None => {
                let folder = config.mail_dir.clone();
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("MAIL_DIR: cannot make {}", folder.display()))?;
                Exit::Folder(folder)
            }
        };
        Ok(Self {
            from: config.mail_from.clone(),
            exit,
        })
    }

    /// Hands a message over. A copy of one that was handed over before replaces it in the folder; a
    /// mail server may deliver both, but they bear the same `Message-ID`.
    pub async fn send(&self, mail: &Mail) -> Result<(), Undelivered> {
        let message = self.compose(mail)?;
        match &self.exit {
            Exit::Server(server) => server.send(&message).await,
            Exit::Folder(folder) => write(folder, mail.notification_id, &message.formatted())
                .await
                .map_err(|error| Undelivered::ForNow(format!("cannot write to MAIL_DIR: {}", error.kind()))),
        }
    }

    fn compose(&self, mail: &Mail) -> Result<Message, Undelivered> {
        let malformed = |reason: &str| Undelivered::ForGood(reason.to_owned());
        let to = mail.to.parse().map_err(|_| malformed("the address is malformed"))?;
        let parts = MultiPart::alternative()
            .singlepart(SinglePart::plain(mail.rendered.text.clone()))
            .singlepart(SinglePart::html(mail.rendered.html.clone()));
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.rendered.subject)
            .message_id(Some(mail.message_id.clone()))
            .raw_header(HeaderValue::new(automatic, "auto-generated".into()))
            .multipart(parts)
            .map_err(|_| malformed("the message cannot be composed"))
    }
}

/// Under a name that only a whole message ever has.
async fn write(folder: &std::path::Path, id: Uuid, message: &[u8]) -> std::io::Result<()> {
    let draft = folder.join(format!(".{id}.{:08x}", fastrand::u32(..)));
    tokio::fs::write(&draft, message).await?;
    tokio::fs::rename(&draft, folder.join(format!("{id}.eml"))).await
}

/// A mail server, and connections to it that are ready for another message.
///
/// Ours, because lettre's pool takes a connection back whose conversation was given up half-way (then
/// the next message hears the answer meant for the last), and its `timeout` ends with connecting.
struct MailServer {
    host: String,
    port: u16,
    security: Security,
    login: Option<Credentials>,
    budget: Duration,
    width: Semaphore,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

enum Security {
    None,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

impl MailServer {
    /// Reads `SMTP_URL`; the error never quotes it, it may hold a password.
    fn at(url: &str, budget: Duration) -> anyhow::Result<Self> {
        let shape = "SMTP_URL: must be smtp://host:port, smtp://user:password@host:port?tls=required or smtps://user:password@host";
        let url = Url::parse(url).ok().context(shape)?;
        let host = url.host_str().context(shape)?.to_owned();
        let tls = || TlsParameters::new(host.clone()).context("SMTP_URL: the host cannot be used with TLS");
        let (security, usual_port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (Security::None, 25),
            ("smtp", Some("tls=required")) => (Security::StartTls(tls()?), 587),
            ("smtps", None) => (Security::Tls(tls()?), 465),
            _ => anyhow::bail!(shape),
        };
        let decoded = |text| {
            percent_decode_str(text)
                .decode_utf8()
                .map(String::from)
                .ok()
                .context(shape)
        };
        let login = match url.password() {
            Some(password) => Some(Credentials::new(decoded(url.username())?, decoded(password)?)),
            None => None,
        };
        // A password never travels in the clear.
        anyhow::ensure!(login.is_none() || !matches!(security, Security::None), shape);
        Ok(Self {
            port: url.port().unwrap_or(usual_port),
            host,
            security,
            login,
            budget,
            width: Semaphore::new(CONNECTIONS),
            idle: Mutex::default(),
        })
    }

    /// The budget includes the wait for a turn, so that no lease outlives its attempt.
    async fn send(&self, message: &Message) -> Result<(), Undelivered> {
        let span = tracing::info_span!(
            "send",
            otel.name = "smtp send",
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            server.address = self.host,
            server.port = self.port,
        );
        let sent = async {
            let outcome = match tokio::time::timeout(self.budget, self.converse(message)).await {
                Ok(conversed) => conversed.map_err(|error| judge(&error)),
                Err(_) => Err(Undelivered::ForNow("the mail server took too long".to_owned())),
            };
            if outcome.is_err() {
                tracing::Span::current().record("otel.status_code", "ERROR");
            }
            outcome
        };
        sent.instrument(span).await
    }

    /// A connection on which anything went wrong, or that was given up, is closed with its conversation.
    async fn converse(&self, message: &Message) -> Result<(), Error> {
        let _turn = self.width.acquire().await;
        let mut connection = match self.reuse().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.send(message.envelope(), &message.formatted()).await?;
        self.idle().push(connection);
        Ok(())
    }

    async fn reuse(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let mut connection = self.idle().pop()?;
            if connection.test_connected().await {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let (address, me) = ((self.host.as_str(), self.port), ClientId::default());
        let wrapped = match &self.security {
            Security::Tls(tls) => Some(tls.clone()),
            _ => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(address, None, &me, wrapped, None).await?;
        if let Security::StartTls(tls) = &self.security {
            connection.starttls(tls.clone(), &me).await?;
        }
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, login).await?;
        }
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AsyncSmtpConnection>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Permanent is only what is wrong with this message; a refusal of us (syntax, login, service) may be
/// mended by an operator. The server's words are dropped, they tend to quote the address.
fn judge(error: &Error) -> Undelivered {
    match error.status().map(u16::from) {
        Some(code @ 550..=556) => Undelivered::ForGood(format!("the mail server answered {code}")),
        Some(code) => Undelivered::ForNow(format!("the mail server answered {code}")),
        None if error.is_tls() => Undelivered::ForNow("no secure connection to the mail server".to_owned()),
        None if error.is_client() => Undelivered::ForNow("the mail server lacks what this message needs".to_owned()),
        None => Undelivered::ForNow("the mail server cannot be reached".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_url_says_host_port_security_and_login() {
        let server = |url| MailServer::at(url, Duration::from_secs(1));
        let plain = server("smtp://127.0.0.1:1025").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("127.0.0.1", 1025));
        assert!(matches!(plain.security, Security::None) && plain.login.is_none());
        let wrapped = server("smtps://shop:p%40ss@mail.example").unwrap();
        assert_eq!(wrapped.port, 465);
        assert!(matches!(wrapped.security, Security::Tls(_)));
        assert_eq!(wrapped.login, Some(Credentials::new("shop".into(), "p@ss".into())));
        let upgraded = server("smtp://shop:x@mail.example?tls=required").unwrap();
        assert!(matches!(upgraded.security, Security::StartTls(_)) && upgraded.port == 587);
    }

    #[tokio::test]
    async fn a_bad_url_is_refused_without_being_quoted() {
        for url in [
            "",
            "mail.example",
            "http://shop:hunter2@mail.example",
            "smtp://shop:hunter2@mail.example",
            "smtp://shop:hunter2@mail.example?tls=maybe",
        ] {
            let refusal = MailServer::at(url, Duration::from_secs(1)).err().unwrap();
            let words = format!("{refusal:#} {refusal:?}");
            assert!(words.contains("SMTP_URL") && !words.contains("hunter2"), "{words}");
        }
    }
}
