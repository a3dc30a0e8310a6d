//! The parameters of `/api/traces`, as Jaeger spells them.

use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::jaeger;
use crate::record::{Record, parse_trace_id, text_of};

/// What a trace must hold to be found: one span that satisfies everything given.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// When given, nothing else counts.
    pub(crate) trace_ids: Vec<u128>,
    service: Option<String>,
    operation: Option<String>,
    tags: Vec<(String, String)>,
    /// Nanoseconds since 1970, of the start of the span.
    start: Option<u64>,
    end: Option<u64>,
    /// Nanoseconds.
    shortest: Option<u64>,
    longest: Option<u64>,
    /// Traces at most.
    pub(crate) limit: usize,
}

impl Query {
    /// Unknown parameters are left alone; an empty one counts as absent.
    pub(crate) fn parse(parameters: &[(String, String)]) -> anyhow::Result<Self> {
        let mut query = Self {
            limit: 100,
            ..Self::default()
        };
        let mut lookback = None;
        for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "lookback" => lookback = nanoseconds(value).ok(),
                _ => query
                    .take(name, value)
                    .with_context(|| format!("cannot read parameter '{name}'"))?,
            }
        }
        let since = || Some(now().saturating_sub(lookback?));
        query.start = query.start.or_else(since);
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        match name {
            "traceID" => self.trace_ids.push(parse_trace_id(value).context("not a trace id")?),
            "service" => self.service = Some(value.to_owned()),
            "operation" => self.operation = Some(value.to_owned()),
            "tag" => self.tags.push(split_tag(value)?),
            "tags" => self.tags.extend(json_tags(value)?),
            "start" => self.start = Some(microseconds(value)?),
            "end" => self.end = Some(microseconds(value)?),
            "minDuration" => self.shortest = Some(nanoseconds(value)?),
            "maxDuration" => self.longest = Some(nanoseconds(value)?),
            "limit" => self.limit = value.parse()?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        let start = record.span.start_time_unix_nano;
        let duration = record.duration();
        self.service
            .as_ref()
            .is_none_or(|service| *service == record.origin.service)
            && self
                .operation
                .as_ref()
                .is_none_or(|operation| *operation == record.span.name)
            && self.start.is_none_or(|earliest| start >= earliest)
            && self.end.is_none_or(|latest| start <= latest)
            && self.shortest.is_none_or(|shortest| duration >= shortest)
            && self.longest.is_none_or(|longest| duration <= longest)
            && self
                .tags
                .iter()
                .all(|wanted| jaeger::searchable(record).any(|tag| tag == *wanted))
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn microseconds(value: &str) -> anyhow::Result<u64> {
    Ok(value.parse::<u64>()?.saturating_mul(1_000))
}

fn split_tag(value: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = value.split_once(':').context("not of the form key:value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn json_tags(value: &str) -> anyhow::Result<Vec<(String, String)>> {
    let tags: serde_json::Map<String, serde_json::Value> = serde_json::from_str(value)?;
    Ok(tags.into_iter().map(|(key, value)| (key, text_of(value))).collect())
}

/// A duration as Go writes it (`1.5s`, `1h30m`, `200ms`), and days (`2d`), in nanoseconds.
fn nanoseconds(value: &str) -> anyhow::Result<u64> {
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(
            rest.find(|c: char| c != '.' && !c.is_ascii_digit())
                .unwrap_or(rest.len()),
        );
        let (unit, after) = after.split_at(
            after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len()),
        );
        total += number
            .parse::<f64>()
            .with_context(|| format!("'{value}' is not a duration"))?
            * scale(unit)?;
        rest = after;
    }
    Ok(total as u64)
}

/// Nanoseconds in a unit.
fn scale(unit: &str) -> anyhow::Result<f64> {
    Ok(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3_600e9,
        "d" => 86_400e9,
        "w" => 604_800e9,
        _ => bail!("'{unit}' is not a unit of time"),
    })
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn reads_durations_as_go_writes_them() {
        for (text, expected) in [
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("200µs", 200_000),
            ("2d", 172_800_000_000_000),
        ] {
            assert_eq!(nanoseconds(text).unwrap(), expected, "{text}");
        }
        for text in ["soon", "5", "1.2.3s", "-1s", "1fortnight"] {
            assert!(nanoseconds(text).is_err(), "{text}");
        }
    }
}
