//! The part of PostgreSQL's `pgoutput` protocol that a publication of inserts into one table needs.
//!
//! Source: PostgreSQL documentation, "Logical Replication Message Formats". Begin and Commit never get
//! here; a Relation names the columns before the first Insert of a session and after every change of
//! the table, so columns are found by name, whatever their order.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use telemetry::TraceContext;

use super::row::Row;
use crate::Envelope;

/// Turns messages into rows of the outbox.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    columns: Vec<String>,
}

impl Decoder {
    /// The row of an Insert; none for a Relation, which is remembered, and for what is no business of ours.
    pub(crate) fn decode(&mut self, mut message: Bytes) -> Result<Option<Row>> {
        match message.try_get_u8()? {
            b'R' => {
                self.columns = columns(&mut message).context("a Relation message")?;
                Ok(None)
            }
            b'I' => self.insert(&mut message).context("an Insert message").map(Some),
            _ => Ok(None),
        }
    }

    fn insert(&self, message: &mut Bytes) -> Result<Row> {
        message.try_get_u32()?;
        ensure!(message.try_get_u8()? == b'N', "it has no new row");
        let count = usize::from(message.try_get_u16()?);
        ensure!(
            count == self.columns.len(),
            "{count} columns, but {} were announced",
            self.columns.len()
        );
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(value(message)?);
        }
        let fields = Fields {
            columns: &self.columns,
            values,
        };
        fields.row()
    }
}

struct Fields<'a> {
    columns: &'a [String],
    values: Vec<Option<String>>,
}

impl Fields<'_> {
    fn row(mut self) -> Result<Row> {
        Ok(Row {
            id: self.must("id")?.parse()?,
            lane: self.must("lane")?.parse()?,
            nats_subject: self.must("nats_subject")?,
            payload: self.must("payload")?,
            envelope: Envelope {
                event_id: self.must("event_id")?.parse()?,
                event_type: self.must("event_type")?,
                subject: self.must("subject")?,
                sequence: self.must("sequence")?.parse()?,
                correlation_id: self.must("correlation_id")?,
                causation_id: self.take("causation_id").map(|id| id.parse()).transpose()?,
                occurred_at: instant(&self.must("occurred_at")?)?,
                trace: TraceContext::restore(self.take("traceparent").as_deref(), self.take("tracestate").as_deref()),
            },
        })
    }

    fn must(&mut self, column: &str) -> Result<String> {
        self.take(column)
            .with_context(|| format!("the column {column} is missing"))
    }

    fn take(&mut self, column: &str) -> Option<String> {
        let at = self.columns.iter().position(|known| known == column)?;
        self.values[at].take()
    }
}

/// Id, schema, table, replica identity; then flags, name, type and modifier of each column.
fn columns(message: &mut Bytes) -> Result<Vec<String>> {
    message.try_get_u32()?;
    text(message)?;
    text(message)?;
    message.try_get_u8()?;
    let count = message.try_get_u16()?;
    let mut columns = Vec::with_capacity(count.into());
    for _ in 0..count {
        message.try_get_u8()?;
        columns.push(text(message)?);
        message.try_get_u64()?;
    }
    Ok(columns)
}

fn value(message: &mut Bytes) -> Result<Option<String>> {
    match message.try_get_u8()? {
        b'n' => Ok(None),
        b't' => {
            let length = usize::try_from(message.try_get_u32()?)?;
            ensure!(length <= message.len(), "a value is cut off");
            Ok(Some(String::from_utf8(message.split_to(length).into())?))
        }
        kind => bail!("a value of kind {:?}", char::from(kind)),
    }
}

fn text(message: &mut Bytes) -> Result<String> {
    let end = message
        .iter()
        .position(|byte| *byte == 0)
        .context("a name has no end")?;
    let text = String::from_utf8(message.split_to(end).into())?;
    message.advance(1);
    Ok(text)
}

/// As the session writes it with `datestyle = ISO` and `timezone = UTC`.
fn instant(text: &str) -> Result<DateTime<Utc>> {
    let instant = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z");
    Ok(instant.with_context(|| format!("{text} is no time"))?.to_utc())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::BufMut;

    use super::*;

    const COLUMNS: [&str; 13] = [
        "id",
        "lane",
        "event_id",
        "event_type",
        "nats_subject",
        "subject",
        "sequence",
        "correlation_id",
        "causation_id",
        "occurred_at",
        "traceparent",
        "tracestate",
        "payload",
    ];
    const ID: &str = "0192f0c5-7d3a-7b52-9a8e-0c1d2e3f4a5b";
    const VALUES: [Option<&str>; 13] = [
        Some("42"),
        Some("7"),
        Some(ID),
        Some("shop.order.OrderPlaced.v1"),
        Some("shop.order.OrderPlaced"),
        Some("order-1"),
        Some("3"),
        Some("order-1"),
        None,
        Some("2026-11-21 17:00:00.123456+00"),
        None,
        None,
        Some("{\"größe\":1}"),
    ];

    fn relation(columns: &[&str]) -> Bytes {
        let mut message = vec![b'R'];
        message.put_u32(1);
        message.put_slice(b"public\0outbox\0d");
        message.put_u16(columns.len() as u16);
        for column in columns {
            message.put_u8(0);
            message.put_slice(column.as_bytes());
            message.put_u8(0);
            message.put_u64(0);
        }
        message.into()
    }

    fn insert(values: &[Option<&str>]) -> Bytes {
        let mut message = vec![b'I'];
        message.put_u32(1);
        message.put_u8(b'N');
        message.put_u16(values.len() as u16);
        for value in values {
            match value {
                Some(value) => {
                    message.put_u8(b't');
                    message.put_u32(value.len() as u32);
                    message.put_slice(value.as_bytes());
                }
                None => message.put_u8(b'n'),
            }
        }
        message.into()
    }

    #[test]
    fn an_insert_becomes_the_row_that_a_query_would_have_found() {
        let mut decoder = Decoder::default();
        assert!(decoder.decode(relation(&COLUMNS)).unwrap().is_none());
        let row = decoder.decode(insert(&VALUES)).unwrap().unwrap();
        assert_eq!((row.id, row.lane, row.envelope.sequence), (42, 7, 3));
        assert_eq!(row.envelope.event_id.to_string(), ID);
        assert_eq!(
            row.envelope.occurred_at.to_rfc3339(),
            "2026-11-21T17:00:00.123456+00:00"
        );
        assert_eq!(
            (row.envelope.causation_id, row.payload.as_str()),
            (None, "{\"größe\":1}")
        );
    }

    #[test]
    fn columns_are_found_by_name_though_the_table_has_changed() {
        let mut decoder = Decoder::default();
        decoder.decode(relation(&COLUMNS)).unwrap();
        let mut columns = COLUMNS.to_vec();
        let mut values = VALUES.to_vec();
        columns.insert(0, "added");
        values.insert(0, Some("later"));
        columns.swap(1, 7);
        values.swap(1, 7);
        decoder.decode(relation(&columns)).unwrap();
        let row = decoder.decode(insert(&values)).unwrap().unwrap();
        assert_eq!((row.id, row.envelope.sequence), (42, 3));
    }

    #[test]
    fn what_is_cut_off_or_unannounced_is_an_error_and_never_a_panic() {
        let whole = insert(&VALUES);
        for length in 0..whole.len() {
            let mut decoder = Decoder::default();
            decoder.decode(relation(&COLUMNS)).unwrap();
            assert!(decoder.decode(whole.slice(..length)).is_err(), "{length} bytes");
        }
        assert!(Decoder::default().decode(whole).is_err());
        let relation = relation(&COLUMNS);
        for length in 1..relation.len() {
            assert!(
                Decoder::default().decode(relation.slice(..length)).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn messages_about_anything_else_are_no_rows() {
        for kind in [b'O', b'Y', b'T', b'D'] {
            assert!(
                Decoder::default()
                    .decode(Bytes::from(vec![kind, 0, 0]))
                    .unwrap()
                    .is_none()
            );
        }
    }
}
