//! Reading streams without taking anything from anybody: ordered consumers of our own, from wherever we want.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, Message};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::stream::{SelectAll, Stream, StreamExt, select_all};
use uuid::Uuid;

use super::report::{Progress, Watch};
use crate::provision::Hears;

/// How long the broker may be silent while it owes us something.
const PATIENCE: Duration = Duration::from_secs(30);

type Messages = Pin<Box<dyn Stream<Item = Result<(&'static str, Message)>> + Send>>;

/// All streams that a service hears, as one.
pub(super) struct Streams {
    all: SelectAll<Messages>,
    watch: Watch,
    /// Streams that have forgotten events from before what they still hold, and after what was asked for.
    pub(super) truncated: Vec<&'static str>,
}

impl Streams {
    /// Opens them at the first message told at or after that time, or at the first there is.
    pub(super) async fn open(
        jetstream: &jetstream::Context,
        hears: &Hears,
        since: Option<DateTime<Utc>>,
        watch: &Watch,
    ) -> Result<Self> {
        let (mut opened, mut truncated) = (Vec::new(), Vec::new());
        for (&stream, subjects) in &hears.subjects {
            let found = jetstream.get_stream(stream).await;
            let found = found.with_context(|| format!("the stream {stream} cannot be read"))?;
            let state = &found.cached_info().state;
            let begins_later = || state.messages == 0 || since.is_none_or(|since| state.first_timestamp > since);
            if state.first_sequence > 1 && begins_later() {
                truncated.push(stream);
            }
            let config = OrderedConfig {
                // Whoever may make no durable must say how it is called.
                name: Some(format!("{}_replay_{}", hears.service, Uuid::now_v7().simple())),
                filter_subjects: subjects.clone(),
                deliver_policy: since.map_or(DeliverPolicy::All, |since| DeliverPolicy::ByStartTime {
                    start_time: since,
                }),
                ..OrderedConfig::default()
            };
            let consumer = found.create_consumer(config).await;
            let mut consumer = consumer.with_context(|| format!("the stream {stream} cannot be read"))?;
            let of = consumer.info().await?.num_pending;
            watch.change(|report| {
                report.streams.insert(stream, Progress { read: 0, of });
            });
            let messages = consumer.messages().await?;
            let messages = messages.map(move |message| Ok((stream, message?)));
            opened.push(Box::pin(messages) as Messages);
        }
        Ok(Self {
            all: select_all(opened),
            watch: watch.clone(),
            truncated,
        })
    }

    /// Whether everything was read that was there when it was last heard of.
    pub(super) fn at_the_end(&self) -> bool {
        self.watch
            .look()
            .streams
            .values()
            .all(|stream| stream.read >= stream.of)
    }

    /// Waits for the next messages and takes what else has arrived, so many at most.
    pub(super) async fn next(&mut self, at_most: usize) -> Result<Vec<Message>> {
        let Ok(first) = tokio::time::timeout(PATIENCE, self.all.next()).await else {
            bail!("the broker has stopped sending");
        };
        let mut taken = Vec::with_capacity(at_most);
        self.take(first, &mut taken)?;
        while taken.len() < at_most
            && let Some(arrived) = self.all.next().now_or_never()
        {
            self.take(arrived, &mut taken)?;
        }
        Ok(taken)
    }

    fn take(&self, arrived: Option<Result<(&'static str, Message)>>, taken: &mut Vec<Message>) -> Result<()> {
        let (stream, message) = arrived.context("a stream has ended")??;
        let pending = message.info().map_err(anyhow::Error::from_boxed)?.pending;
        self.watch.change(|report| {
            let progress = report.streams.entry(stream).or_default();
            progress.read += 1;
            progress.of = progress.read + pending;
        });
        taken.push(message);
        Ok(())
    }
}
