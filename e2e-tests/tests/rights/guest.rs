//! Somebody with the rights of a user of the broker, who tries what that user never does.

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::{self, response::Response};
use async_nats::{Client, Event, Message, Request};
use e2e_tests::{PATIENCE, World};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

pub(super) struct Guest {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    /// What the broker says without being asked.
    said: UnboundedReceiver<String>,
}

impl Guest {
    /// Connects with the user's own password.
    pub(super) async fn of(world: &World, user: &str) -> Result<Self> {
        let (options, servers) = messaging::broker::options(&world.shop.nats_url(user))?;
        let (saying, said) = unbounded_channel();
        let options = options.event_callback(move |event| {
            let saying = saying.clone();
            async move {
                if let Event::ServerError(error) = event {
                    let _ = saying.send(error.to_string());
                }
            }
        });
        let client = options.connect(servers).await?;
        Ok(Self {
            jetstream: jetstream::new(client.clone()),
            client,
            said,
        })
    }

    /// Publishes there, and awaits the broker's refusal of exactly that.
    #[allow(clippy::disallowed_methods, reason = "it is what must not be done")]
    pub(super) async fn is_refused(&mut self, subject: &str) -> Result<()> {
        self.client.publish(subject.to_owned(), "{}".into()).await?;
        self.refusal(&format!("Permissions Violation for Publish to \"{subject}\""))
            .await
    }

    /// Subscribes there, and awaits the broker's refusal of exactly that.
    pub(super) async fn is_refused_to_listen(&mut self, subject: &str) -> Result<()> {
        let _listening = self.client.subscribe(subject.to_owned()).await?;
        self.refusal(&format!("Permissions Violation for Subscription to \"{subject}\""))
            .await
    }

    async fn refusal(&mut self, wanted: &str) -> Result<()> {
        let refused = timeout(PATIENCE, self.said.recv()).await;
        let refused = refused.with_context(|| format!("nobody said: {wanted}"))?;
        let refused = refused.context("the connection has ended")?;
        ensure!(refused.contains(wanted), "{refused}, and not: {wanted}");
        Ok(())
    }

    /// Asks and is answered, whatever the answer is.
    #[allow(clippy::disallowed_methods, reason = "a user's rights are looked at from outside")]
    pub(super) async fn asks(&self, subject: &str, payload: &Value) -> Result<Message> {
        let request = Request::new()
            .payload(payload.to_string().into())
            .timeout(Some(PATIENCE));
        let answer = self.client.send_request(subject.to_owned(), request).await;
        answer.with_context(|| format!("{subject} is not answered"))
    }

    /// Asks JetStream, which answers with an error of its own.
    pub(super) async fn is_told_no(&self, request: &str, payload: &Value) -> Result<()> {
        let answer = self.asks(&format!("$JS.API.{request}"), payload).await?;
        match serde_json::from_slice::<Response<Value>>(&answer.payload)? {
            Response::Err { .. } => Ok(()),
            Response::Ok(done) => bail!("{request} was done: {done}"),
        }
    }
}
